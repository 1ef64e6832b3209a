// SPDX-License-Identifier: MIT
// A TCP socket that speaks in another host's name: IP_TRANSPARENT, our mark, bound to that host's address.
// Needs CAP_NET_ADMIN at this moment only. The caller owns it. Supervisor.
#pragma once

#include <cstdint>
#include <sys/socket.h>

#include "shm/base/result.h"
#include "shm/base/unique_fd.h"

namespace smbdirect::daemon {

/// Nonblocking, closed on exec, not bound yet. The error names the call.
[[nodiscard]] shm::Result<shm::UniqueFd> make_transparent_socket(int family, uint32_t mark);

}  // namespace smbdirect::daemon
