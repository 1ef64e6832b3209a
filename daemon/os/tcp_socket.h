// SPDX-License-Identifier: MIT
// The kernel's table of TCP sockets, /proc/net/tcp and tcp6, line by line. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "shm/base/socket_address.h"

namespace smbdirect::daemon {

struct TcpSocket {
  enum class State : uint8_t { established = 0x01, listen = 0x0A };  // and others, which nobody asks for

  shm::Host local{};  // all zero: every IPv6 address; IPv4's is 0.0.0.0 in its mapped form
  uint16_t local_port{};
  shm::Host remote{};
  uint16_t remote_port{};
  State state{};
  uint64_t inode{};  // 0: the kernel's own socket, which no process has
};
/// Nothing for what is no socket: the table's first line.
[[nodiscard]] std::optional<TcpSocket> parse_tcp_socket(std::string_view line);

}  // namespace smbdirect::daemon
