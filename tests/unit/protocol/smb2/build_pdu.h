// SPDX-License-Identifier: MIT
// SMB2 PDUs for tests, built field by field from MS-SMB2's offsets; independent of the code under test.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <initializer_list>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "protocol/smb2/server_translator.h"

namespace smb2_test {

using Bytes = std::vector<std::byte>;
using smbdirect::protocol::smb2::BufferDescriptor;

inline constexpr uint16_t kNegotiate = 0, kSessionSetup = 1, kCreate = 5, kClose = 6, kRead = 8, kWrite = 9,
                          kLock = 10, kIoctl = 11, kCancel = 12, kEcho = 13, kQueryDirectory = 14,
                          kChangeNotify = 15, kQueryInfo = 16;
inline constexpr uint32_t kResponse = 1, kAsync = 2, kRelated = 4, kSigned = 8;
inline constexpr uint32_t kInvalidParameter = 0xC000000D, kEndOfFile = 0xC0000011, kPending = 0x103,
                          kCancelled = 0xC0000120, kBufferOverflow = 0x80000005;

inline void put(Bytes& bytes, size_t at, uint64_t value, size_t width) {
  for (size_t i = 0; i < width; ++i) bytes.at(at + i) = static_cast<std::byte>(value >> (8 * i) & 0xFF);
}
inline uint64_t get(std::span<const std::byte> bytes, size_t at, size_t width) {
  uint64_t value = 0;
  for (size_t i = 0; i < width; ++i) value |= std::to_integer<uint64_t>(bytes[at + i]) << (8 * i);
  return value;
}

/// "fe534d42 4000" -> bytes; blanks are ignored.
inline Bytes hex(std::string_view text) {
  const auto digit = [](char c) { return c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10; };
  Bytes bytes;
  int high = -1;
  for (const char c : text) {
    if (c == ' ' || c == '\n') continue;
    if (high < 0) {
      high = digit(c);
    } else {
      bytes.push_back(static_cast<std::byte>(high << 4 | digit(c)));
      high = -1;
    }
  }
  return bytes;
}

inline Bytes pattern(size_t size, uint32_t seed) {
  Bytes bytes(size);
  uint32_t x = seed * 2654435761u + 1;
  for (auto& b : bytes) {
    x = x * 1664525u + 1013904223u;
    b = static_cast<std::byte>(x >> 24);
  }
  return bytes;
}

inline Bytes operator+(Bytes a, std::span<const std::byte> b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

struct Head {
  uint64_t message_id{};
  uint32_t flags{};
  uint16_t credit_charge = 1;
  uint32_t status{};
};

inline Bytes header(uint16_t command, const Head& head) {
  Bytes bytes(64);
  put(bytes, 0, 0x424D53FE, 4);
  put(bytes, 4, 64, 2);
  put(bytes, 6, head.credit_charge, 2);
  put(bytes, 8, head.status, 4);
  put(bytes, 12, command, 2);
  put(bytes, 14, 1, 2);
  put(bytes, 16, head.flags, 4);
  put(bytes, 24, head.message_id, 8);
  put(bytes, 36, 7, 4);             // TreeId
  put(bytes, 40, 0x1122334455, 8);  // SessionId
  return bytes;
}

/// Any other command: a header and `body`.
inline Bytes plain(uint16_t command, const Head& head, size_t body = 4) {
  Bytes bytes = header(command, head);
  bytes.resize(64 + body);
  put(bytes, 64, body & 0xFFFE, 2);
  return bytes;
}

inline Bytes descriptors(std::span<const BufferDescriptor> memory) {
  Bytes bytes(16 * memory.size());
  for (size_t i = 0; i < memory.size(); ++i) {
    put(bytes, 16 * i, memory[i].offset, 8);
    put(bytes, 16 * i + 8, memory[i].token, 4);
    put(bytes, 16 * i + 12, memory[i].length, 4);
  }
  return bytes;
}

struct Io {
  uint64_t offset{};
  uint32_t length{};  // READ: Length; RDMA-channel WRITE: RemainingBytes
  uint64_t file = 0x77;
  uint32_t channel{};
  std::vector<BufferDescriptor> memory{};
  Bytes data{};  // plain WRITE
};

inline Bytes read_request(const Head& head, const Io& io) {
  Bytes bytes = header(kRead, head);
  bytes.resize(112);
  put(bytes, 64, 49, 2);
  bytes[66] = std::byte{80};
  put(bytes, 68, io.length, 4);
  put(bytes, 72, io.offset, 8);
  put(bytes, 80, io.file, 8);
  put(bytes, 88, io.file, 8);
  put(bytes, 100, io.channel, 4);
  if (!io.memory.empty()) {
    put(bytes, 108, 112, 2);
    put(bytes, 110, 16 * io.memory.size(), 2);
    return bytes + descriptors(io.memory);
  }
  bytes.push_back(std::byte{0});
  return bytes;
}

inline Bytes write_request(const Head& head, const Io& io) {
  Bytes bytes = header(kWrite, head);
  bytes.resize(112);
  put(bytes, 64, 49, 2);
  put(bytes, 72, io.offset, 8);
  put(bytes, 80, io.file, 8);
  put(bytes, 88, io.file, 8);
  put(bytes, 96, io.channel, 4);
  if (io.channel != 0) {
    put(bytes, 100, io.length, 4);
    put(bytes, 104, 112, 2);
    put(bytes, 106, 16 * io.memory.size(), 2);
    return bytes + descriptors(io.memory);
  }
  put(bytes, 66, 112, 2);
  put(bytes, 68, io.data.size(), 4);
  return bytes + io.data;
}

inline Bytes read_response(Head head, std::span<const std::byte> data) {
  head.flags |= kResponse;
  Bytes bytes = header(kRead, head);
  bytes.resize(80);
  put(bytes, 64, 17, 2);
  bytes[66] = std::byte{80};
  put(bytes, 68, data.size(), 4);
  return bytes + data;
}

inline Bytes write_response(Head head, uint32_t count) {
  head.flags |= kResponse;
  Bytes bytes = header(kWrite, head);
  bytes.resize(80);
  put(bytes, 64, 17, 2);
  put(bytes, 68, count, 4);
  return bytes;
}

inline Bytes error_response(uint16_t command, Head head) {
  head.flags |= kResponse;
  Bytes bytes = header(command, head);
  bytes.resize(73);
  put(bytes, 64, 9, 2);
  return bytes;
}

inline Bytes interim_response(uint16_t command, Head head) {
  head.flags |= kAsync;
  head.status = kPending;
  return error_response(command, head);
}

inline Bytes negotiate_request(std::initializer_list<uint16_t> dialects, uint64_t message_id = 0) {
  Bytes bytes = header(kNegotiate, {.message_id = message_id});
  bytes.resize(100);
  put(bytes, 64, 36, 2);
  put(bytes, 66, dialects.size(), 2);
  for (size_t i = 0; i < 16; ++i) bytes[76 + i] = static_cast<std::byte>(0xA0 + i);
  for (const uint16_t dialect : dialects) {
    bytes.resize(bytes.size() + 2);
    put(bytes, bytes.size() - 2, dialect, 2);
  }
  return bytes;
}

inline Bytes negotiate_response(uint16_t dialect, uint32_t max_read = 8 << 20, uint32_t max_write = 8 << 20,
                                uint64_t message_id = 0) {
  Bytes bytes = header(kNegotiate, {.message_id = message_id, .flags = kResponse});
  bytes.resize(128);
  put(bytes, 64, 65, 2);
  put(bytes, 68, dialect, 2);
  put(bytes, 92, 8 << 20, 4);
  put(bytes, 96, max_read, 4);
  put(bytes, 100, max_write, 4);
  put(bytes, 120, 128, 2);
  return bytes;
}

/// Elements joined into a compound: padded to 8, NextCommand set, the last one left as it is.
inline Bytes chain(std::vector<Bytes> elements) {
  Bytes whole;
  for (size_t i = 0; i < elements.size(); ++i) {
    Bytes& element = elements[i];
    if (i + 1 < elements.size()) {
      element.resize((element.size() + 7) / 8 * 8);
      put(element, 20, element.size(), 4);
    }
    whole = std::move(whole) + element;
  }
  return whole;
}

inline std::span<const std::byte> prefix_of(const Bytes& pdu) {
  return std::span(pdu).first(std::min(pdu.size(), smbdirect::protocol::smb2::kPrefixBytes));
}

/// A server translator before a stream that takes everything at once.
struct PromptTranslator : smbdirect::protocol::smb2::ServerTranslator {
  using ServerTranslator::ServerTranslator;
  using Violation = smbdirect::protocol::smb2::Violation;
  std::expected<void, Violation> request(std::span<std::byte> pdu,
                                         smbdirect::protocol::smb2::RewrittenRequest& out) {
    const auto done = ServerTranslator::request(pdu, out);
    if (done) forwarded(out.ticket);
    return done;
  }
  std::expected<void, Violation> note(const smbdirect::protocol::smb2::RequestInfo& info) {
    const auto noted = ServerTranslator::note(info);
    if (!noted) return std::unexpected(noted.error());
    forwarded(*noted);
    return {};
  }
};

/// One request and its answer, both as they should be.
inline void ask(smbdirect::protocol::smb2::ServerTranslator& translator, Bytes request,
                const Bytes& response) {
  smbdirect::protocol::smb2::RewrittenRequest out;
  if (!translator.request(request, out)) throw "a request was refused";
  translator.forwarded(out.ticket);
  if (!translator.response(prefix_of(response), response.size())) throw "a response was refused";
}
/// A server translator that has seen smbd agree to `dialect`.
inline void negotiate(smbdirect::protocol::smb2::ServerTranslator& translator, uint16_t dialect,
                      uint32_t max_read = 8 << 20, uint32_t max_write = 8 << 20) {
  ask(translator, negotiate_request({dialect}), negotiate_response(dialect, max_read, max_write));
}
/// ... and grant a session.
inline void agree(smbdirect::protocol::smb2::ServerTranslator& translator, uint16_t dialect,
                  uint32_t max_read = 8 << 20, uint32_t max_write = 8 << 20) {
  constexpr uint64_t kId = 0x5E551045E551;  // none that tests use
  negotiate(translator, dialect, max_read, max_write);
  ask(translator, plain(kSessionSetup, {.message_id = kId}, 24),
      plain(kSessionSetup, {.message_id = kId, .flags = kResponse}, 8));
}

/// What a fetch names, in order.
inline std::vector<BufferDescriptor> memory_of(const smbdirect::protocol::smb2::Fetch& fetch) {
  std::vector<BufferDescriptor> memory;
  while (const auto descriptor = fetch.descriptor(memory.size())) memory.push_back(*descriptor);
  return memory;
}

/// A request as smbd would get it, with the fetched bytes given by `fetched`.
template <typename Fetched>
Bytes assemble(const smbdirect::protocol::smb2::RewrittenRequest& request, Fetched&& fetched) {
  Bytes wire;
  for (const auto& piece : request.pieces)
    wire = piece.fetch >= 0
               ? std::move(wire) + Bytes(fetched(request.fetches[static_cast<size_t>(piece.fetch)]))
               : std::move(wire) + piece.bytes;
  return wire;
}

inline Bytes assemble(const smbdirect::protocol::smb2::ChainPlan& plan) {
  Bytes wire;
  for (const auto& piece : plan.pieces) wire = std::move(wire) + piece.bytes;
  return wire;
}

/// The exact size on the heap, so that a sanitizer sees the first byte past the end.
inline Bytes exact(std::span<const std::byte> bytes) { return {bytes.begin(), bytes.end()}; }

inline Bytes cut(Bytes bytes, size_t size) { return exact(std::span(bytes).first(size)); }

}  // namespace smb2_test
