// SPDX-License-Identifier: MIT
// Who listens on which TCP port of this host: the kernel's table, and the processes that hold its sockets.
// smbdirectctl only. Only root sees other users' processes.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "daemon/ctl/doctor/host.h"

namespace smbdirect::daemon::doctor {

struct TcpListener {
  shm::Host host{};  // all zero: every IPv6 address; IPv4's is 0.0.0.0 in its mapped form
  uint16_t port = 0;
  uint64_t inode = 0;  // 0: the kernel's own socket, which no process has
};
[[nodiscard]] std::vector<TcpListener> tcp_listeners(Host& host);

[[nodiscard]] bool is_wildcard(const shm::Host& host);
/// Would a second socket collide with this one?
[[nodiscard]] bool collides(const TcpListener& listener, const shm::Host& host, uint16_t port);

struct SocketOwner {
  pid_t pid = 0;
  std::string name;
};
/// Every process that holds the socket; none where they cannot be seen.
[[nodiscard]] std::vector<SocketOwner> owners_of(Host& host, uint64_t inode);

}  // namespace smbdirect::daemon::doctor
