// SPDX-License-Identifier: MIT
// The number that the supervisor gives a connection when it comes in; every process and every message names
// the connection by it. Never 0, never used twice in a supervisor's life. Pure; any process.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

namespace smbdirect::shm {

/// A type of its own: it is no slot, no pid, no other number.
enum class ConnectionId : uint64_t {};

[[nodiscard]] inline std::string connection_text(ConnectionId connection) {
  return std::to_string(std::to_underlying(connection));
}

}  // namespace smbdirect::shm
