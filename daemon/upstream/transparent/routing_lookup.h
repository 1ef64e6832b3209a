// SPDX-License-Identifier: MIT
// Asks the kernel about the routing of mode "transparent", without changing it: which entries there are, and
// where packets of our mark go. Supervisor and smbdirectctl; holds nothing.
#pragma once

#include <cstdint>

#include "daemon/os/netlink.h"
#include "daemon/upstream/policy_routing.h"
#include "shm/base/result.h"

namespace smbdirect::daemon {

/// One family's rules and its table, compared with what is wanted.
[[nodiscard]] shm::Result<RoutingState> look_up_routing(Netlink& netlink, const RoutingRule& wanted_rule,
                                                        const Route& wanted_route);

/// An error that names the route that the kernel takes for the mark where it is not to this host.
[[nodiscard]] shm::Result<> check_marked_route(Netlink& netlink, int family, uint32_t mark);

}  // namespace smbdirect::daemon
