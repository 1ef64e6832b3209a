// SPDX-License-Identifier: MIT
// Whether the address that a connection request of the RDMA connection manager claims can be true: it is in
// the request's private data, written by the client. On RoCE the request's path also has a GID, the IP
// address that our packets go to (IPv4 in its mapped form). A request that claims another address would evade
// limits, access lists and smbd's "hosts allow", and is refused. InfiniBand's GIDs are not IP addresses and
// prove nothing; on iWARP the address is that of the TCP connection. Pure; the supervisor.
#pragma once

#include "shm/base/socket_address.h"

namespace smbdirect::daemon {

/// GIDs of the peer's end; zero: not known.
struct CmGids {
  shm::Host path{};  // of the request's path: where answers go
  shm::Host
      address{};  // as the kernel has it: on RoCE made from the address that is claimed, else the path's
};

/// The GID of the path contradicts the claimed address.
[[nodiscard]] bool is_false_claim(const shm::Host& claimed, const CmGids& gids);

}  // namespace smbdirect::daemon
