// SPDX-License-Identifier: MIT
// The IP addresses of this host's interfaces, in the network namespace of the netlink socket. Supervisor and
// smbdirectctl; asks the kernel and keeps nothing.
#pragma once

#include <vector>

#include "daemon/os/netlink.h"
#include "shm/base/result.h"
#include "shm/base/socket_address.h"

namespace smbdirect::daemon {

/// Of AF_INET or AF_INET6; without those of loopback, and those that are valid on one link only.
[[nodiscard]] shm::Result<std::vector<shm::Host>> local_addresses(Netlink& netlink, int family);

}  // namespace smbdirect::daemon
