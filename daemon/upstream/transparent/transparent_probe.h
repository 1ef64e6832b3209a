// SPDX-License-Identifier: MIT
// Tests upstream mode "transparent" before any client connects: a connection over loopback from a
// documentation address (RFC 5737, RFC 3849). Supervisor, at start. Leaves nothing behind.
#pragma once

#include <cstdint>
#include <sys/socket.h>

#include "shm/base/result.h"

namespace smbdirect::daemon {

/// The address that is tried, port 0.
[[nodiscard]] sockaddr_storage probe_address(int family);

/// Blocks for a second when the connection does not come to pass. The error names the step that failed.
[[nodiscard]] shm::Result<> probe_transparent(int family, uint32_t mark);

}  // namespace smbdirect::daemon
