// SPDX-License-Identifier: MIT
#include "protocol/proxy/frames.h"

#include <algorithm>
#include <cstring>

#include "protocol/smb2/wire.h"

namespace smbdirect::protocol::proxy {
namespace {

namespace wire = smb2::wire;

constexpr size_t kVersionBytes = 4;

/// What bodies a type may have: `fixed` bytes, `each` more for each of up to `max_count`, and then between
/// `rest_min` and `rest_max`.
struct Row {
  FrameType type;
  Sender sender;
  uint32_t fixed;
  uint32_t each;
  uint16_t max_count;
  uint32_t rest_min;
  uint32_t rest_max;
};

constexpr uint16_t kAnyCount = 0xFFFF;  // an errno

// clang-format off
constexpr Row kRows[] = {
  {FrameType::facts,      Sender::worker, kFactsFixedBytes,             0,  0, 1, kMaxNegotiate},
  {FrameType::pdu,        Sender::worker, 0,                            0,  0, 1, kMaxPdu},
  {FrameType::done,       Sender::worker, 0,                            0,  0, 0, 0},
  {FrameType::channel,    Sender::worker, 0,                            0,  0, 0, 0},
  {FrameType::hello,      Sender::peer,   kVersionBytes + kCookieBytes, 0,  0, 0, 0},
  {FrameType::attached,   Sender::peer,   kVersionBytes,                0,  0, 0, 0},
  {FrameType::reply,      Sender::peer,   0,                            4,  kMaxInvalidate, 1, kMaxPdu},
  {FrameType::rdma_read,  Sender::peer,   kOperationFixedBytes,         smb2::kDescriptorBytes, kMaxOperationDescriptors, 0, 0},
  {FrameType::rdma_write, Sender::peer,   kOperationFixedBytes,         smb2::kDescriptorBytes, kMaxOperationDescriptors, 0, 0},
  {FrameType::registered, Sender::daemon, kVersionBytes,                0,  0, 0, 0},
  {FrameType::refused,    Sender::daemon, 0,                            0,  kAnyCount, 0, 0},
  {FrameType::start,      Sender::daemon, kStartFixedBytes,             0,  0, 1, kMaxSocketPath},
  {FrameType::failed,     Sender::main,   0,                            0,  kAnyCount, 0, 0},
};
// clang-format on

void store_address(std::span<std::byte> at, const Address& address) {
  wire::store(at, 0, address.family);
  wire::store(at, 2, address.port);
  std::ranges::copy(address.bytes, at.subspan(4).begin());
}

std::expected<Address, FrameError> load_address(std::span<const std::byte> at) {
  Address address{.family = wire::load16(at, 0), .port = wire::load16(at, 2)};
  if (address.family != 4 && address.family != 6) return std::unexpected(FrameError::bad_value);
  std::ranges::copy(at.subspan(4, address.bytes.size()), address.bytes.begin());
  return address;
}

/// Writes a body front to back.
class Body {
 public:
  explicit Body(size_t bytes) : bytes_(bytes) {}
  template <typename Int>
  void number(Int value) {
    wire::store(std::span(bytes_), at_, value);
    at_ += sizeof value;
  }
  void copy(std::span<const std::byte> from) {
    std::ranges::copy(from, bytes_.begin() + std::ptrdiff_t(at_));
    at_ += from.size();
  }
  void address(const Address& address) {
    store_address(std::span(bytes_).subspan(at_, kAddressBytes), address);
    at_ += kAddressBytes;
  }
  [[nodiscard]] std::vector<std::byte> take() { return std::move(bytes_); }

 private:
  std::vector<std::byte> bytes_;
  size_t at_ = 0;
};

template <size_t N>
std::array<std::byte, N> take_array(std::span<const std::byte> bytes, size_t at) {
  std::array<std::byte, N> out{};
  std::ranges::copy(bytes.subspan(at, N), out.begin());
  return out;
}

}  // namespace

std::string_view frame_error_text(FrameError error) {
  switch (error) {
    case FrameError::unknown_type:
      return "a frame of a type that its sender may not send";
    case FrameError::bad_length:
      return "a frame whose length is not valid for its type";
    case FrameError::bad_version:
      return "a frame of another version of the native channel's protocol";
    case FrameError::bad_value:
      return "a frame with a value out of range";
  }
  return "?";
}

Address address_of_host(const std::array<uint8_t, 16>& host, uint16_t port) {
  constexpr std::array<uint8_t, 12> kMapped{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF};
  const bool ipv4 = std::equal(kMapped.begin(), kMapped.end(), host.begin());
  Address address{.family = uint16_t(ipv4 ? 4 : 6), .port = port};
  std::memcpy(address.bytes.data(), host.data() + (ipv4 ? kMapped.size() : 0), ipv4 ? 4 : host.size());
  return address;
}

std::array<std::byte, kFrameHeaderBytes> encode_header(const FrameHeader& header) {
  std::array<std::byte, kFrameHeaderBytes> bytes{};
  wire::store(std::span(bytes), 0, header.length);
  wire::store(std::span(bytes), 4, static_cast<uint16_t>(header.type));
  wire::store(std::span(bytes), 6, header.count);
  wire::store(std::span(bytes), 8, header.id);
  return bytes;
}

std::expected<FrameHeader, FrameError> parse_frame_header(std::span<const std::byte, kFrameHeaderBytes> bytes,
                                                          Sender sender) {
  const FrameHeader header{.length = wire::load32(bytes, 0),
                           .type = static_cast<FrameType>(wire::load16(bytes, 4)),
                           .count = wire::load16(bytes, 6),
                           .id = wire::load64(bytes, 8)};
  const auto* row = std::ranges::find(kRows, header.type, &Row::type);
  if (row == std::end(kRows) || row->sender != sender) return std::unexpected(FrameError::unknown_type);
  if (header.count > row->max_count) return std::unexpected(FrameError::bad_value);
  const uint64_t fixed = row->fixed + uint64_t{row->each} * header.count;
  if (header.length < fixed + row->rest_min || header.length - fixed > row->rest_max) {
    return std::unexpected(FrameError::bad_length);
  }
  return header;
}

std::vector<std::byte> encode_facts(const Facts& facts) {
  Body body(kFactsFixedBytes + facts.negotiate.size());
  body.number(kVersion);
  body.number(facts.area_bytes);
  body.number(facts.max_pdu);
  body.number(facts.max_read_write);
  body.number(facts.max_operations);
  body.number(uint16_t{0});
  body.copy(facts.client_guid.bytes);
  body.address(facts.client);
  body.address(facts.server);
  body.copy(facts.negotiate);
  return body.take();
}

std::expected<Facts, FrameError> parse_facts(std::span<const std::byte> body) {
  if (body.size() <= kFactsFixedBytes || body.size() - kFactsFixedBytes > kMaxNegotiate) {
    return std::unexpected(FrameError::bad_length);
  }
  if (auto version = parse_version(body.first(kVersionBytes)); !version) {
    return std::unexpected(version.error());
  }
  Facts facts{.area_bytes = wire::load64(body, 4),
              .max_pdu = wire::load32(body, 12),
              .max_read_write = wire::load32(body, 16),
              .max_operations = wire::load16(body, 20),
              .client_guid = {take_array<16>(body, 24)},
              .client = {},
              .server = {},
              .negotiate = {}};
  const auto client = load_address(body.subspan(40, kAddressBytes));
  const auto server = load_address(body.subspan(40 + kAddressBytes, kAddressBytes));
  if (!client || !server || facts.max_pdu == 0 || facts.max_pdu > kMaxPdu || facts.max_operations == 0) {
    return std::unexpected(FrameError::bad_value);
  }
  facts.client = *client;
  facts.server = *server;
  const auto negotiate = body.subspan(kFactsFixedBytes);
  facts.negotiate.assign(negotiate.begin(), negotiate.end());
  return facts;
}

std::vector<std::byte> encode_operation(const Operation& operation) {
  Body body(kOperationFixedBytes + operation.memory.size() * smb2::kDescriptorBytes);
  body.number(operation.area_offset);
  body.number(operation.length);
  body.number(uint32_t{0});
  for (const smb2::BufferDescriptor& piece : operation.memory) {
    body.number(piece.offset);
    body.number(piece.token);
    body.number(piece.length);
  }
  return body.take();
}

std::expected<void, FrameError> parse_operation(std::span<const std::byte> body, uint16_t count,
                                                Operation& into) {
  if (count > kMaxOperationDescriptors ||
      body.size() != kOperationFixedBytes + count * smb2::kDescriptorBytes) {
    return std::unexpected(FrameError::bad_length);
  }
  into.area_offset = wire::load64(body, 0);
  into.length = wire::load32(body, 8);
  into.memory.clear();
  uint64_t room = 0;
  for (size_t i = 0; i < count; ++i) {
    into.memory.push_back(
        smb2::load_descriptor(body.subspan(kOperationFixedBytes + i * smb2::kDescriptorBytes)));
    room += into.memory.back().length;
  }
  if (into.length == 0 || room < into.length) return std::unexpected(FrameError::bad_value);
  return {};
}

std::vector<std::byte> encode_start(const Start& start) {
  Body body(kStartFixedBytes + start.socket.size());
  body.copy(start.cookie.bytes);
  body.copy(start.client_guid.bytes);
  body.address(start.client);
  body.copy(std::as_bytes(std::span(start.socket)));
  return body.take();
}

std::expected<Start, FrameError> parse_start(std::span<const std::byte> body) {
  if (body.size() <= kStartFixedBytes || body.size() - kStartFixedBytes > kMaxSocketPath) {
    return std::unexpected(FrameError::bad_length);
  }
  const auto client = load_address(body.subspan(kCookieBytes + 16, kAddressBytes));
  const auto path = body.subspan(kStartFixedBytes);
  if (!client || std::ranges::find(path, std::byte{0}) != path.end()) {
    return std::unexpected(FrameError::bad_value);
  }
  Start start{.cookie = {take_array<kCookieBytes>(body, 0)},
              .client_guid = {take_array<16>(body, kCookieBytes)},
              .client = *client,
              .socket = std::string(path.size(), '\0')};
  std::memcpy(start.socket.data(), path.data(), path.size());
  return start;
}

std::vector<std::byte> encode_hello(const Cookie& cookie) {
  Body body(kVersionBytes + kCookieBytes);
  body.number(kVersion);
  body.copy(cookie.bytes);
  return body.take();
}

std::expected<Cookie, FrameError> parse_hello(std::span<const std::byte> body) {
  if (body.size() != kVersionBytes + kCookieBytes) return std::unexpected(FrameError::bad_length);
  if (auto version = parse_version(body.first(kVersionBytes)); !version) {
    return std::unexpected(version.error());
  }
  return Cookie{take_array<kCookieBytes>(body, kVersionBytes)};
}

std::array<std::byte, 4> encode_version() {
  std::array<std::byte, kVersionBytes> bytes{};
  wire::store(std::span(bytes), 0, kVersion);
  return bytes;
}

std::expected<void, FrameError> parse_version(std::span<const std::byte> body) {
  if (body.size() != kVersionBytes) return std::unexpected(FrameError::bad_length);
  if (wire::load32(body, 0) != kVersion) return std::unexpected(FrameError::bad_version);
  return {};
}

}  // namespace smbdirect::protocol::proxy
