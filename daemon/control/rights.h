// SPDX-License-Identifier: MIT
// Who may do what at the control socket. A pure decision of what the kernel says about the peer; the
// supervisor makes it once for each connection.
#pragma once

#include <cstdint>
#include <optional>
#include <sys/types.h>

#include "daemon/os/unix_socket.h"

namespace smbdirect::daemon {

enum class Right : uint8_t {
  none,
  questions,   // what changes nothing: commands whose row does not say `changes`
  everything,  // also commands that change the pool, and to register as a server's main process
};

/// own: the user that the daemon runs as. readers: the group of /control/group, if there is one.
[[nodiscard]] Right right_of(const PeerIdentity& peer, uid_t own, std::optional<gid_t> readers);

}  // namespace smbdirect::daemon
