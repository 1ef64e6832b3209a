// SPDX-License-Identifier: MIT
// Asks the kernel about the routing of mode "transparent", without changing it: which entries there are, and
// where packets of our mark go. Supervisor and smbdirectctl; holds nothing.
#pragma once

#include <cstdint>
#include <vector>

#include "daemon/os/netlink.h"
#include "daemon/upstream/policy_routing.h"
#include "shm/base/result.h"
#include "shm/base/socket_address.h"

namespace smbdirect::daemon {

/// The addresses that smbd answers from, those that are this host's now and of the family: `wanted`, or all
/// where there is none.
[[nodiscard]] shm::Result<std::vector<shm::Host>> smbd_sources(Netlink& netlink, int family,
                                                               const std::vector<shm::Host>& wanted);

/// One family's rules and its table, compared with what is wanted.
[[nodiscard]] shm::Result<RoutingState> look_up_routing(Netlink& netlink, const RoutingRule& wanted_rule,
                                                        const Route& wanted_route,
                                                        const std::vector<shm::Host>& sources);

/// An error that names the route that the kernel takes for the mark where it is not to this host: from no
/// address in particular, or from one of these.
[[nodiscard]] shm::Result<> check_marked_route(Netlink& netlink, int family, uint32_t mark,
                                               const std::vector<shm::Host>& sources);

}  // namespace smbdirect::daemon
