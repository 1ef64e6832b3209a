// SPDX-License-Identifier: MIT
// Network byte order, read and written through shifts so that no wire byte is ever cast to a struct. The
// caller has checked that the bytes are there.
#pragma once

#include <cstddef>
#include <cstdint>

namespace smbdirect::workers::fabric::iwarp {

inline uint16_t get_be16(const std::byte* at) {
  return static_cast<uint16_t>(std::to_integer<unsigned>(at[0]) << 8 | std::to_integer<unsigned>(at[1]));
}

inline uint32_t get_be32(const std::byte* at) {
  return static_cast<uint32_t>(get_be16(at)) << 16 | get_be16(at + 2);
}

inline uint64_t get_be64(const std::byte* at) {
  return static_cast<uint64_t>(get_be32(at)) << 32 | get_be32(at + 4);
}

inline void put_be16(std::byte* at, uint16_t value) {
  at[0] = static_cast<std::byte>(value >> 8);
  at[1] = static_cast<std::byte>(value);
}

inline void put_be32(std::byte* at, uint32_t value) {
  put_be16(at, static_cast<uint16_t>(value >> 16));
  put_be16(at + 2, static_cast<uint16_t>(value));
}

inline void put_be64(std::byte* at, uint64_t value) {
  put_be32(at, static_cast<uint32_t>(value >> 32));
  put_be32(at + 4, static_cast<uint32_t>(value));
}

}  // namespace smbdirect::workers::fabric::iwarp
