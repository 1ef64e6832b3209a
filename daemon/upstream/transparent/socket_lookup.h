// SPDX-License-Identifier: MIT
// Asks the kernel which TCP socket of this host a packet would reach (NETLINK_SOCK_DIAG). Supervisor, one
// thread. Holds one netlink socket; the answer comes within the call.
//
// Mode "transparent" needs it twice. A SYN for a port where nobody listens is answered with a reset that does
// not carry our mark (net.ipv4.fwmark_reflect) and so leaves for the real client: the connection would only
// time out, where this answers "nobody" at once. And a client may have a real TCP connection to smbd from the
// very port that we are about to use with its address: the kernel sees no conflict, for the two sockets are
// the opposite ends of the same pair of addresses, but the SYN would reach the client's connection.
#pragma once

#include <cstdint>
#include <optional>
#include <sys/socket.h>

#include "daemon/os/netlink.h"
#include "shm/base/result.h"

namespace smbdirect::daemon {

class SocketLookup {
 public:
  enum class Reached : uint8_t { nobody, listener, connection };

  /// An error where the kernel cannot answer (no tcp_diag module).
  [[nodiscard]] static shm::Result<SocketLookup> open();
  /// Both addresses of one family.
  [[nodiscard]] shm::Result<Reached> look(const sockaddr_storage& from, const sockaddr_storage& to);

 private:
  explicit SocketLookup(Netlink netlink) : netlink_(std::move(netlink)) {}
  Netlink netlink_;
};

}  // namespace smbdirect::daemon
