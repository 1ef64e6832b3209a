// SPDX-License-Identifier: MIT
#include "daemon/upstream/transparent/routing_lookup.h"

#include <cerrno>
#include <linux/fib_rules.h>
#include <linux/rtnetlink.h>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "daemon/upstream/transparent/transparent_probe.h"
#include "shm/base/socket_address.h"

namespace smbdirect::daemon {

shm::Result<RoutingState> look_up_routing(Netlink& netlink, const RoutingRule& wanted_rule,
                                          const Route& wanted_route) {
  const int family = wanted_rule.family;
  fib_rule_hdr rule_header{};
  rule_header.family = uint8_t(family);
  auto rule_messages = netlink.ask(NetlinkRequest(RTM_GETRULE, NLM_F_DUMP, rule_header),
                                   "read the routing rules (" + family_name(family) + ")");
  if (!rule_messages) return std::unexpected(rule_messages.error());
  rtmsg route_header{};
  route_header.rtm_family = uint8_t(family);
  NetlinkRequest request(RTM_GETROUTE, NLM_F_DUMP, route_header);
  request.put(RTA_TABLE, wanted_route.table);
  auto route_messages = netlink.ask(
      request, "read routing table " + std::to_string(wanted_route.table) + " (" + family_name(family) + ")");
  // ENOENT: no such table yet.
  if (!route_messages && route_messages.error().system_errno != ENOENT) {
    return std::unexpected(route_messages.error());
  }
  std::vector<RoutingRule> rules;
  for (const auto& message : *rule_messages) {
    if (auto rule = RoutingRule::parse(message)) rules.push_back(*rule);
  }
  std::vector<Route> routes;
  if (route_messages) {
    for (const auto& message : *route_messages) {
      if (auto route = Route::parse(message)) routes.push_back(*route);
    }
  }
  return compare_routing(wanted_rule, wanted_route, rules, routes);
}

shm::Result<> check_marked_route(Netlink& netlink, int family, uint32_t mark) {
  const sockaddr_storage address = probe_address(family);
  const shm::Host host = shm::host_of(address);
  const auto bytes = std::as_bytes(std::span(host));
  rtmsg header{};
  header.rtm_family = uint8_t(family);
  header.rtm_dst_len = family == AF_INET6 ? 128 : 32;
  NetlinkRequest request(RTM_GETROUTE, 0, header);
  request.put_bytes(RTA_DST, family == AF_INET6 ? bytes : bytes.subspan(12));
  request.put(RTA_MARK, mark);
  const std::string what =
      "look up the route to " + shm::host_text(host) + " for the mark of /upstream/transparent/mark";
  const auto answer = netlink.ask(request, what);
  if (!answer) return std::unexpected(answer.error());
  for (const auto& message : *answer) {
    const auto route = Route::parse(message);
    if (route && route->type == RTN_LOCAL) return {};
    if (route) {
      return shm::fail(what + ": the kernel answers \"" + route->text() +
                       "\" instead of smbdirectd's route: another routing rule comes first (\"ip" +
                       (family == AF_INET6 ? " -6" : "") + " rule\" shows them)");
    }
  }
  return shm::fail(what + ": no answer");
}

}  // namespace smbdirect::daemon
