// SPDX-License-Identifier: MIT
// A 16-byte identifier as its owner sent it. Pure; any process.
#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <string>

namespace smbdirect::shm {

/// A type of its own: it is no FileId, no cookie.
struct Guid {
  std::array<std::byte, 16> bytes{};
  auto operator<=>(const Guid&) const = default;
};

/// "01234567-89ab-cdef-0123-456789abcdef": the first three parts are little-endian in memory (MS-DTYP 2.3.4).
[[nodiscard]] inline std::string guid_text(const Guid& guid) {
  constexpr std::array<size_t, 16> kOrder{3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15};
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text;
  for (size_t i = 0; i < kOrder.size(); ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    const auto value = static_cast<unsigned>(guid.bytes[kOrder[i]]);
    text += kDigits[value >> 4];
    text += kDigits[value & 15];
  }
  return text;
}

}  // namespace smbdirect::shm
