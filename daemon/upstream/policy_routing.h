// SPDX-License-Identifier: MIT
// What smbdirectd keeps in the kernel's policy routing for upstream mode "transparent", compared with what is
// there: the rule that sends packets of our mark to our table, and the route in that table which delivers
// them to this host. Values and decisions only, no I/O (transparent_routes.h does that). Supervisor.
//
// What we add carries kOurProtocol, a field that the kernel keeps and does not interpret ("proto 83" in "ip
// rule" and "ip route"). It distinguishes our entries from an administrator's with the same content, also for
// the successor of a supervisor that was killed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <sys/socket.h>
#include <vector>

#include "daemon/os/netlink.h"
#include "shm/base/socket_address.h"

namespace smbdirect::daemon {

inline constexpr uint8_t kOurProtocol = 83;

/// The families' names for a person: "IPv4", "IPv6".
[[nodiscard]] std::string family_name(int family);

struct RoutingRule {
  int family = AF_INET;
  uint32_t priority = 0;
  uint8_t action = 0;  // FR_ACT_TO_TBL is the only one of ours
  uint32_t table = 0;
  uint32_t mark = 0;
  uint32_t mask = 0;
  uint8_t protocol = 0;
  bool inverted = false;
  shm::Host source{};       // "from": of packets that come from this network
  uint8_t source_bits = 0;  // of its prefix; 0: from anywhere
  bool narrowed = false;    // has selectors beside the mark and the source

  /// Nothing for a message that is no rule.
  [[nodiscard]] static std::optional<RoutingRule> parse(const NetlinkMessage& message);
  /// To add or delete it. message_type: RTM_NEWRULE or RTM_DELRULE.
  [[nodiscard]] NetlinkRequest request(uint16_t message_type, uint16_t flags) const;
  /// As "ip rule" would be told it: "fwmark 0x534d42 lookup 5342 (IPv4, priority 100)".
  [[nodiscard]] std::string text() const;
  bool operator==(const RoutingRule&) const = default;
};

struct Route {
  int family = AF_INET;
  uint32_t table = 0;
  uint8_t type = 0;  // RTN_LOCAL is the only one of ours
  uint8_t prefix_bits = 0;
  uint32_t interface = 0;
  uint32_t metric = 0;
  uint8_t protocol = 0;

  [[nodiscard]] static std::optional<Route> parse(const NetlinkMessage& message);
  [[nodiscard]] NetlinkRequest request(uint16_t message_type, uint16_t flags) const;
  /// "local default dev lo table 5342 (IPv4)".
  [[nodiscard]] std::string text() const;
  bool operator==(const Route&) const = default;
};

/// Every address is this host's own. protocol is kOurProtocol; table 254 is "main".
[[nodiscard]] Route everything_local(int family, uint32_t table, uint32_t loopback, uint32_t metric);
[[nodiscard]] RoutingRule mark_rule(int family, uint32_t mark, uint32_t table, uint32_t priority);

/// Which of our entries one family's tables contain, and what conflicts with them.
struct RoutingState {
  std::vector<RoutingRule> our_rules;  // ours, or left by one of us
  std::vector<Route> our_routes;
  bool rule_by_administrator = false;  // an administrator has added the same rule
  bool route_by_administrator = false;
  std::string conflict;  // empty, or a phrase that names the foreign rule or route
};

/// rules: all of the family. routes: at least those of the wanted table. sources: addresses of this host that
/// smbd answers from, of the family; rules before ours may take what comes from them.
[[nodiscard]] RoutingState compare_routing(const RoutingRule& wanted_rule, const Route& wanted_route,
                                           const std::vector<RoutingRule>& rules,
                                           const std::vector<Route>& routes,
                                           const std::vector<shm::Host>& sources);

}  // namespace smbdirect::daemon
