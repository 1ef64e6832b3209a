// SPDX-License-Identifier: MIT
// Whether an IP address is one of this host's, in this process' network namespace. Supervisor; asks the
// kernel and keeps nothing.
#pragma once

#include "shm/base/socket_address.h"

namespace smbdirect::daemon {

/// True also where it cannot be found out: with net.ipv4.ip_nonlocal_bind, and of an address within one link.
[[nodiscard]] bool is_own_address(const shm::Host& host);

}  // namespace smbdirect::daemon
