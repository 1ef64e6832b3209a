// SPDX-License-Identifier: MIT
// What the smb2 fuzz targets share: cutting an input into PDUs, each on the heap in its exact size, and
// ending the run when an invariant does not hold.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <span>

#include "tests/unit/protocol/smb2/build_pdu.h"

namespace smb2_fuzz {

using smb2_test::Bytes;

inline void require(bool holds) {
  if (!holds) std::abort();
}

/// Records of {u8 tag, u16 little-endian length, bytes}; the last may be cut short.
class Records {
 public:
  Records(const uint8_t* data, size_t size) : left_(reinterpret_cast<const std::byte*>(data), size) {}
  struct Record {
    uint8_t tag{};
    Bytes bytes;
  };
  std::optional<Record> next() {
    if (left_.size() < 3) return std::nullopt;
    Record record{std::to_integer<uint8_t>(left_[0]), {}};
    const size_t wanted = smb2_test::get(left_, 1, 2);
    left_ = left_.subspan(3);
    record.bytes = smb2_test::exact(left_.first(std::min(wanted, left_.size())));
    left_ = left_.subspan(record.bytes.size());
    return record;
  }

 private:
  std::span<const std::byte> left_;
};

inline constexpr uint16_t kDialects[] = {0, 0x0210, 0x0300, 0x0302, 0x0311};

inline bool within(std::span<const std::byte> inner, const Bytes& outer) {
  return inner.empty() ||
         (inner.data() >= outer.data() && inner.data() + inner.size() <= outer.data() + outer.size());
}

/// A rewritten request is whole, and smbd sees no Channel in it.
inline void check_request(const smbdirect::protocol::smb2::RewrittenRequest& out, const Bytes& pdu) {
  uint64_t total = 0;
  for (const auto& piece : out.pieces) {
    if (piece.fetch < 0) {
      require(within(piece.bytes, pdu) || piece.bytes.size() <= 8);
      total += piece.bytes.size();
      continue;
    }
    require(static_cast<size_t>(piece.fetch) < out.fetches.size());
    const auto& fetch = out.fetches[static_cast<size_t>(piece.fetch)];
    uint64_t memory = 0;
    for (const auto& descriptor : smb2_test::memory_of(fetch)) memory += descriptor.length;
    require(fetch.length != 0 && memory >= fetch.length);
    total += fetch.length;
  }
  require(total == out.total && total <= 0xFFFFFF);
  if (total > (1 << 20)) return;  // do not build what only repeats the check above
  const Bytes wire = smb2_test::assemble(out, [](const auto& fetch) { return Bytes(fetch.length); });
  if (wire.size() < 64 || smb2_test::get(wire, 0, 1) != 0xFE) return;
  for (size_t at = 0;;) {
    require(at % 8 == 0 && wire.size() - at >= 64);
    const size_t next = smb2_test::get(wire, at + 20, 4);
    const uint64_t command = smb2_test::get(wire, at + 12, 2);
    if (command == smb2_test::kRead) require(smb2_test::get(wire, at + 100, 4) == 0);
    if (command == smb2_test::kWrite) require(smb2_test::get(wire, at + 96, 4) == 0);
    if (next == 0) return;
    at += next;
    require(at < wire.size());
  }
}

}  // namespace smb2_fuzz
