// SPDX-License-Identifier: MIT
#include "daemon/upstream/transparent/routing_lookup.h"

#include <algorithm>
#include <cerrno>
#include <linux/fib_rules.h>
#include <linux/rtnetlink.h>
#include <string>
#include <vector>

#include "daemon/os/local_addresses.h"
#include "daemon/upstream/transparent/transparent_probe.h"
#include "shm/base/socket_address.h"

namespace smbdirect::daemon {

shm::Result<RoutingState> look_up_routing(Netlink& netlink, const RoutingRule& wanted_rule,
                                          const Route& wanted_route, const std::vector<shm::Host>& sources) {
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
  return compare_routing(wanted_rule, wanted_route, rules, routes, sources);
}

namespace {

shm::Result<> check_one(Netlink& netlink, int family, uint32_t mark, const shm::Host* source) {
  const shm::Host client = shm::host_of(probe_address(family));
  const uint8_t bits = family == AF_INET6 ? 128 : 32;
  rtmsg header{};
  header.rtm_family = uint8_t(family);
  header.rtm_dst_len = bits;
  header.rtm_src_len = source != nullptr ? bits : 0;
  NetlinkRequest request(RTM_GETROUTE, 0, header);
  request.put_bytes(RTA_DST, netlink_bytes(client));
  if (source != nullptr) request.put_bytes(RTA_SRC, netlink_bytes(*source));
  request.put(RTA_MARK, mark);
  const std::string what = "look up the route to " + shm::host_text(client) +
                           (source != nullptr ? " from " + shm::host_text(*source) : "") +
                           " for the mark of /upstream/transparent/mark";
  const auto answer = netlink.ask(request, what);
  if (!answer) return std::unexpected(answer.error());
  for (const auto& message : *answer) {
    const auto route = Route::parse(message);
    if (route && route->type == RTN_LOCAL) return {};
    if (route) {
      return shm::fail(what + ": the kernel answers \"" + route->text() +
                       "\" instead of smbdirectd's route: another routing rule comes first (\"ip" +
                       (family == AF_INET6 ? " -6" : "") +
                       " rule\" shows them; a lower /upstream/transparent/priority comes before it)");
    }
  }
  return shm::fail(what + ": no answer");
}

}  // namespace

shm::Result<> check_marked_route(Netlink& netlink, int family, uint32_t mark,
                                 const std::vector<shm::Host>& sources) {
  if (auto routed = check_one(netlink, family, mark, nullptr); !routed) return routed;
  for (const shm::Host& source : sources) {
    auto routed = check_one(netlink, family, mark, &source);
    // Not usable yet, or any more: it is for the next start.
    if (!routed && routed.error().system_errno == EINVAL) continue;
    if (!routed) return routed;
  }
  return {};
}

shm::Result<std::vector<shm::Host>> smbd_sources(Netlink& netlink, int family,
                                                 const std::vector<shm::Host>& wanted) {
  auto here = local_addresses(netlink, family);
  if (here && !wanted.empty())
    std::erase_if(*here,
                  [&](const shm::Host& host) { return std::ranges::find(wanted, host) == wanted.end(); });
  return here;
}

}  // namespace smbdirect::daemon
