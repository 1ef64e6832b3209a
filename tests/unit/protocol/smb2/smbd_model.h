// SPDX-License-Identifier: MIT
// As much of smbd as READ and WRITE need, with the habits measured on 4.17: Channel is ignored, a WRITE's
// DataOffset must be 112, a READ needs a byte of Buffer, MaxReadSize comes before CreditCharge, elements of a
// compound answer are padded to 8, slow requests get an interim response, answers come together or in parts.
#pragma once

#include <map>
#include <random>
#include <vector>

#include "tests/unit/protocol/smb2/build_pdu.h"

namespace smb2_test {

inline uint32_t pick(std::mt19937& random, uint32_t below) { return static_cast<uint32_t>(random() % below); }

class SmbdModel {
 public:
  static constexpr uint32_t kMaxIo = 1 << 20;
  static constexpr uint64_t kPipe = 0x919E;  // READ of less than there is: STATUS_BUFFER_OVERFLOW

  explicit SmbdModel(uint32_t seed) : random_(seed) {}

  std::map<uint64_t, Bytes> files;

  /// One PDU of the stream; the PDUs smbd sends for it, in order. Throws on what would make smbd disconnect.
  std::vector<Bytes> handle(const Bytes& pdu) {
    std::vector<Bytes> sent;
    std::vector<Bytes> part;
    const auto flush = [&] {
      if (!part.empty()) sent.push_back(chain(std::exchange(part, {})));
    };
    std::vector<Bytes> late;
    for (size_t at = 0;;) {
      const size_t next = get(pdu, at + 20, 4);
      if (next % 8 != 0 || (next != 0 && at + next + 64 > pdu.size()))
        throw "smbd would disconnect: NextCommand";
      const Bytes element = exact(std::span(pdu).subspan(at, next != 0 ? next : pdu.size() - at));
      Bytes response = answer(element);
      if (!response.empty()) {
        if (random_() % 4 == 0) {
          part.push_back(interim_response(static_cast<uint16_t>(get(element, 12, 2)),
                                          {.message_id = get(element, 24, 8)}));
          put(response, 16, get(response, 16, 4) | kAsync, 4);
          flush();
          late.push_back(std::move(response));
        } else {
          part.push_back(std::move(response));
          if (random_() % 4 == 0) flush();
        }
      }
      if (next == 0) break;
      at += next;
    }
    flush();
    std::ranges::shuffle(late, random_);
    for (Bytes& response : late) sent.push_back(std::move(response));
    return sent;
  }

 private:
  Bytes answer(const Bytes& request) {
    const auto command = static_cast<uint16_t>(get(request, 12, 2));
    const Head head{.message_id = get(request, 24, 8),
                    .flags = static_cast<uint32_t>(get(request, 16, 4)) & kRelated,
                    .credit_charge = static_cast<uint16_t>(get(request, 6, 2))};
    const auto error = [&](uint32_t status) {
      Head failed = head;
      failed.status = status;
      return error_response(command, failed);
    };
    switch (command) {
      case kCancel:
        return {};
      case kRead: {
        if (request.size() < 113 || get(request, 64, 2) != 49) return error(kInvalidParameter);
        const uint64_t length = get(request, 68, 4);
        const uint64_t offset = get(request, 72, 8);
        if (length > kMaxIo || length > head.credit_charge * 65536u) return error(kInvalidParameter);
        const auto file = files.find(get(request, 80, 8));
        if (file == files.end()) return error(0xC0000128);
        if (offset >= file->second.size()) return error(kEndOfFile);
        const auto left = std::span(file->second).subspan(offset);
        Head ok = head;
        if (file->first == kPipe && left.size() > length) ok.status = kBufferOverflow;
        return read_response(ok, left.first(std::min<size_t>(left.size(), length)));
      }
      case kWrite: {
        if (request.size() < 112 || get(request, 64, 2) != 49) return error(kInvalidParameter);
        const uint64_t length = get(request, 68, 4);
        const uint64_t offset = get(request, 72, 8);
        if (get(request, 66, 2) != 112 || length > request.size() - 112) return error(kInvalidParameter);
        if (length > kMaxIo || length > head.credit_charge * 65536u) return error(kInvalidParameter);
        const auto file = files.find(get(request, 80, 8));
        if (file == files.end()) return error(0xC0000128);
        if (file->second.size() < offset + length) file->second.resize(offset + length);
        std::ranges::copy(std::span(request).subspan(112, length),
                          file->second.begin() + static_cast<long>(offset));
        return write_response(head, static_cast<uint32_t>(length));
      }
      default: {
        Head ok = head;
        ok.flags |= kResponse;
        return plain(command, ok);
      }
    }
  }

  std::mt19937 random_;
};

/// Registered memory of an RDMA client, by token, with guard bytes around every piece.
class ClientMemory {
 public:
  static constexpr std::byte kGuard{0xA5};

  BufferDescriptor expose(uint32_t length, uint64_t base) {
    const auto token = static_cast<uint32_t>(1000 + pieces_.size());
    pieces_.push_back({Bytes(length, kGuard), base});
    return {base, token, length};
  }
  void fill(const std::vector<BufferDescriptor>& memory, std::span<const std::byte> data) {
    (void)write(memory, data);
  }
  /// RDMA READ: `length` bytes from the descriptors in order.
  [[nodiscard]] Bytes read(std::span<const BufferDescriptor> memory, size_t length) const {
    Bytes data;
    for (const auto& d : memory) {
      const Piece& piece = pieces_.at(d.token - 1000);
      if (d.offset != piece.base || d.length != piece.bytes.size()) throw "descriptor was altered";
      const size_t n = std::min<size_t>(length - data.size(), d.length);
      data = std::move(data) + std::span(piece.bytes).first(n);
    }
    if (data.size() != length) throw "RDMA READ beyond the memory";
    return data;
  }
  /// RDMA WRITE. False: beyond the memory.
  bool write(std::span<const BufferDescriptor> memory, std::span<const std::byte> data) {
    for (const auto& d : memory) {
      Piece& piece = pieces_.at(d.token - 1000);
      if (d.offset != piece.base || d.length != piece.bytes.size()) throw "descriptor was altered";
      const size_t n = std::min<size_t>(data.size(), d.length);
      std::ranges::copy(data.first(n), piece.bytes.begin());
      data = data.subspan(n);
    }
    return data.empty();
  }

 private:
  struct Piece {
    Bytes bytes;
    uint64_t base;
  };
  std::vector<Piece> pieces_;
};

}  // namespace smb2_test
