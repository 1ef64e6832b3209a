// SPDX-License-Identifier: MIT
// What a process shows to a worker to get the channel it was started for (frames.h): random, good once.
// Pure; any process.
#pragma once

#include <array>
#include <compare>
#include <cstddef>

namespace smbdirect::protocol::proxy {

inline constexpr size_t kCookieBytes = 16;

struct Cookie {
  std::array<std::byte, kCookieBytes> bytes{};
  auto operator<=>(const Cookie&) const = default;
};

}  // namespace smbdirect::protocol::proxy
