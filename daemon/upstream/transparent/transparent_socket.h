// SPDX-License-Identifier: MIT
// A TCP socket that can use another host's address: IP_TRANSPARENT and our mark. Needs CAP_NET_ADMIN, but
// only while it is made. The caller owns it. Supervisor.
#pragma once

#include <cstdint>
#include <sys/socket.h>

#include "shm/base/result.h"
#include "shm/base/unique_fd.h"

namespace smbdirect::daemon {

/// Nonblocking, closed on exec, not bound yet. The error names the call.
[[nodiscard]] shm::Result<shm::UniqueFd> make_transparent_socket(int family, uint32_t mark);

}  // namespace smbdirect::daemon
