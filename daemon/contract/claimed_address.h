// SPDX-License-Identifier: MIT
// What the address is worth that a connection request of the RDMA connection manager names: it stands in the
// request's private data, where the client wrote it. On RoCE the request's path has a GID besides, which is
// the IP address that our packets go to (IPv4 in its mapped form); who names another than that would get
// limits, access lists and smbd's "hosts allow" wrong, and is refused. InfiniBand's GIDs are no IP addresses
// and say nothing; on iWARP the address is TCP's own. Pure; the supervisor.
#pragma once

#include "shm/base/socket_address.h"

namespace smbdirect::daemon {

/// GIDs of the peer's end; zero: not told.
struct CmGids {
  shm::Host path{};  // of the request's path: where answers go
  shm::Host
      address{};  // as the kernel has it: on RoCE made from the address that is claimed, else the path's
};

/// The path belies the address.
[[nodiscard]] bool is_false_claim(const shm::Host& claimed, const CmGids& gids);

}  // namespace smbdirect::daemon
