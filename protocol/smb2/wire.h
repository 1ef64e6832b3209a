// SPDX-License-Identifier: MIT
// Little-endian loads and stores for SMB2 fields (MS-SMB2 2.2: every integer is little-endian). Callers have
// checked the bounds; pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace smbdirect::protocol::smb2::wire {

template <typename Int>
[[nodiscard]] inline Int load(std::span<const std::byte> bytes, size_t at) {
  uint64_t value = 0;
  for (size_t i = 0; i < sizeof(Int); ++i) value |= std::to_integer<uint64_t>(bytes[at + i]) << (8 * i);
  return static_cast<Int>(value);
}

template <typename Int>
inline void store(std::span<std::byte> bytes, size_t at, Int value) {
  for (size_t i = 0; i < sizeof(Int); ++i)
    bytes[at + i] = static_cast<std::byte>((uint64_t{value} >> (8 * i)) & 0xFF);
}

[[nodiscard]] inline uint8_t load8(std::span<const std::byte> bytes, size_t at) {
  return load<uint8_t>(bytes, at);
}
[[nodiscard]] inline uint16_t load16(std::span<const std::byte> bytes, size_t at) {
  return load<uint16_t>(bytes, at);
}
[[nodiscard]] inline uint32_t load32(std::span<const std::byte> bytes, size_t at) {
  return load<uint32_t>(bytes, at);
}
[[nodiscard]] inline uint64_t load64(std::span<const std::byte> bytes, size_t at) {
  return load<uint64_t>(bytes, at);
}

/// Compound elements start on multiples of 8 (MS-SMB2 3.2.4.1.4).
[[nodiscard]] constexpr uint64_t align8(uint64_t n) { return (n + 7) & ~uint64_t{7}; }

}  // namespace smbdirect::protocol::smb2::wire
