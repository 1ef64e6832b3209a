// SPDX-License-Identifier: MIT
// The error value of all our code: what failed, on what, and the operating system's reason. Expected failures
// are returned as Result<T>; only start-up code may throw.
#pragma once

#include <cstring>
#include <expected>
#include <string>
#include <utility>

namespace smbdirect::shm {

struct Error {
  std::string what;    // "bind 127.0.0.1:445": the call and the object, ready to print
  int system_errno{};  // 0 when the system was not the one that refused

  /// One line for a person: what failed and the system's reason.
  [[nodiscard]] std::string text() const {
    return system_errno == 0 ? what : what + ": " + std::strerror(system_errno);
  }
};

template <class T = void>
using Result = std::expected<T, Error>;

[[nodiscard]] inline std::unexpected<Error> fail(std::string what, int system_errno = 0) {
  return std::unexpected(Error{std::move(what), system_errno});
}

}  // namespace smbdirect::shm
