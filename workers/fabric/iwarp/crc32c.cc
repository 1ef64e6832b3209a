// SPDX-License-Identifier: MIT
#include "workers/fabric/iwarp/crc32c.h"

#include <algorithm>

#include <isa-l/crc.h>

namespace smbdirect::workers::fabric::iwarp {

void Crc32c::update(std::span<const std::byte> bytes) {
  constexpr size_t kMost = 1U << 30;  // isa-l counts in int
  while (!bytes.empty()) {
    const size_t part = std::min(bytes.size(), kMost);
    // isa-l only reads, its prototype merely lacks the const.
    auto* data = const_cast<unsigned char*>(reinterpret_cast<const unsigned char*>(bytes.data()));
    state_ = crc32_iscsi(data, static_cast<int>(part), state_);
    bytes = bytes.subspan(part);
  }
}

std::array<std::byte, 4> Crc32c::wire() const {
  const uint32_t crc = value();
  return {static_cast<std::byte>(crc), static_cast<std::byte>(crc >> 8), static_cast<std::byte>(crc >> 16),
          static_cast<std::byte>(crc >> 24)};
}

}  // namespace smbdirect::workers::fabric::iwarp
