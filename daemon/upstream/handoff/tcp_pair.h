// SPDX-License-Identifier: MIT
// Both ends of a TCP connection between any two addresses, made in the calling thread's network namespace.
// That must be one where every address is local and which is used for nothing else (netns_thread.h).
// Supervisor.
#pragma once

#include <sys/socket.h>

#include "shm/base/result.h"
#include "shm/base/unique_fd.h"

namespace smbdirect::daemon {

struct TcpPair {
  shm::UniqueFd client;  // nonblocking; its local address is the client's
  shm::UniqueFd server;  // blocking; its peer is the client
};

/// server: address and port. client: its port is used when it is free, else another. Blocks for at most a
/// second or two; both are closed on exec.
[[nodiscard]] shm::Result<TcpPair> make_tcp_pair(const sockaddr_storage& client,
                                                 const sockaddr_storage& server);

}  // namespace smbdirect::daemon
