// SPDX-License-Identifier: MIT
// Numbers as text. Pure; any process.
#pragma once

#include <charconv>
#include <concepts>
#include <optional>
#include <string_view>
#include <system_error>

namespace smbdirect::shm {

/// The number that the whole text is; nothing for anything else, a sign of an unsigned type, or what the type
/// cannot hold.
template <std::integral Number>
[[nodiscard]] std::optional<Number> number_from_text(std::string_view text, int base = 10) {
  Number value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

}  // namespace smbdirect::shm
