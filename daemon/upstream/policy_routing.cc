// SPDX-License-Identifier: MIT
#include "daemon/upstream/policy_routing.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <linux/fib_rules.h>
#include <linux/rtnetlink.h>

namespace smbdirect::daemon {
namespace {

constexpr uint32_t kWholeMark = 0xffff'ffff;

std::string hex(uint32_t number) {
  std::array<char, 16> text{};
  std::snprintf(text.data(), text.size(), "0x%x", number);
  return text.data();
}

/// A table's number does not fit the structure's byte above 255; it is then in an attribute alone.
uint8_t short_table(uint32_t table) { return table < 256 ? uint8_t(table) : uint8_t(RT_TABLE_UNSPEC); }

/// Has it the mark that the rule looks for? Inverting is of the whole rule.
bool has_mark(const RoutingRule& rule, uint32_t mark) {
  return (mark & rule.mask) == (rule.mark & rule.mask);
}

bool is_from(const RoutingRule& rule, const shm::Host& host) {
  const auto network = netlink_bytes(rule.source), address = netlink_bytes(host);
  if (rule.source_bits == 0) return true;
  if (network.size() != address.size() || rule.source_bits > 8 * network.size()) return false;
  const auto bit = [](std::span<const std::byte> bytes, size_t i) {
    return std::to_integer<unsigned>(bytes[i / 8]) >> (7 - i % 8) & 1;
  };
  for (size_t i = 0; i < rule.source_bits; ++i) {
    if (bit(network, i) != bit(address, i)) return false;
  }
  return true;
}

/// Would a rule take a packet that carries `mark`, whoever sends it?
bool takes(const RoutingRule& rule, uint32_t mark) {
  return rule.mask != 0 && rule.source_bits == 0 && has_mark(rule, mark) != rule.inverted;
}

/// One that selects by where packets come from: would it take one with this mark from there? What else it
/// selects by is not known here.
bool takes_from(const RoutingRule& rule, uint32_t mark, const shm::Host& source) {
  if (rule.source_bits == 0 || rule.narrowed) return false;
  // These lead nowhere else: to the next rule, or another one, or to this host.
  if (rule.action == FR_ACT_NOP || rule.action == FR_ACT_GOTO ||
      (rule.action == FR_ACT_TO_TBL && rule.table == RT_TABLE_LOCAL)) {
    return false;
  }
  return (has_mark(rule, mark) && is_from(rule, source)) != rule.inverted;
}

bool same_rule(const RoutingRule& rule, const RoutingRule& wanted) {
  return rule.action == wanted.action && rule.table == wanted.table && rule.mark == wanted.mark &&
         rule.mask == wanted.mask && rule.source_bits == 0 && !rule.inverted && !rule.narrowed;
}

bool same_route(const Route& route, const Route& wanted) {
  return route.type == wanted.type && route.prefix_bits == 0 && route.interface == wanted.interface;
}

}  // namespace

std::string family_name(int family) { return family == AF_INET6 ? "IPv6" : "IPv4"; }

std::optional<RoutingRule> RoutingRule::parse(const NetlinkMessage& message) {
  if (message.type != RTM_NEWRULE || message.body.size() < sizeof(fib_rule_hdr)) return std::nullopt;
  const auto header = netlink_value<fib_rule_hdr>(message.body);
  RoutingRule rule;
  rule.family = header.family;
  rule.table = header.table;
  rule.action = header.action;
  rule.inverted = (header.flags & FIB_RULE_INVERT) != 0;
  rule.source_bits = header.src_len;
  rule.narrowed = header.dst_len != 0 || header.tos != 0;
  bool has_mask = false;
  for_each_attribute(std::span(message.body).subspan(sizeof header), [&](uint16_t attribute, auto value) {
    switch (attribute) {
      case FRA_TABLE:
        rule.table = netlink_value<uint32_t>(value);
        break;
      case FRA_PRIORITY:
        rule.priority = netlink_value<uint32_t>(value);
        break;
      case FRA_FWMARK:
        rule.mark = netlink_value<uint32_t>(value);
        break;
      case FRA_FWMASK:
        rule.mask = netlink_value<uint32_t>(value);
        has_mask = true;
        break;
      case FRA_SRC:
        rule.source = netlink_host(value);
        break;
      case FRA_PROTOCOL:
        rule.protocol = netlink_value<uint8_t>(value);
        break;
      case FRA_PAD:
      case FRA_GOTO:
      case FRA_FLOW:
        break;
      case FRA_SUPPRESS_PREFIXLEN:  // always told, -1 is none; one that suppresses /0 would not find our
                                    // route
      case FRA_SUPPRESS_IFGROUP:
        if (netlink_value<int32_t>(value) != -1) rule.narrowed = true;
        break;
      default:  // an interface, ports, users, addresses
        rule.narrowed = true;
    }
  });
  if (rule.mark != 0 && !has_mask) rule.mask = kWholeMark;
  return rule;
}

NetlinkRequest RoutingRule::request(uint16_t message_type, uint16_t flags) const {
  fib_rule_hdr header{};
  header.family = uint8_t(family);
  header.table = short_table(table);
  header.action = action;
  header.src_len = source_bits;
  NetlinkRequest request(message_type, flags, header);
  if (source_bits != 0) request.put_bytes(FRA_SRC, netlink_bytes(source));
  request.put(FRA_PRIORITY, priority);
  request.put(FRA_TABLE, table);
  request.put(FRA_FWMARK, mark);
  request.put(FRA_FWMASK, mask);
  request.put(FRA_PROTOCOL, protocol);
  return request;
}

std::string RoutingRule::text() const {
  std::string text = inverted ? "not " : "";
  if (source_bits != 0) {
    const bool whole = source_bits == 8 * netlink_bytes(source).size();
    text += "from " + shm::host_text(source) + (whole ? " " : "/" + std::to_string(source_bits) + " ");
  }
  if (mask != 0) text += "fwmark " + hex(mark) + (mask == kWholeMark ? "" : "/" + hex(mask)) + " ";
  if (narrowed) text += "(and more) ";
  text += action == FR_ACT_TO_TBL ? "lookup " + std::to_string(table) : "action " + std::to_string(action);
  return text + " (" + family_name(family) + ", priority " + std::to_string(priority) + ")";
}

std::optional<Route> Route::parse(const NetlinkMessage& message) {
  if (message.type != RTM_NEWROUTE || message.body.size() < sizeof(rtmsg)) return std::nullopt;
  const auto header = netlink_value<rtmsg>(message.body);
  Route route;
  route.family = header.rtm_family;
  route.table = header.rtm_table;
  route.type = header.rtm_type;
  route.prefix_bits = header.rtm_dst_len;
  route.protocol = header.rtm_protocol;
  for_each_attribute(std::span(message.body).subspan(sizeof header), [&](uint16_t attribute, auto value) {
    if (attribute == RTA_TABLE) route.table = netlink_value<uint32_t>(value);
    if (attribute == RTA_OIF) route.interface = netlink_value<uint32_t>(value);
    if (attribute == RTA_PRIORITY) route.metric = netlink_value<uint32_t>(value);
  });
  return route;
}

NetlinkRequest Route::request(uint16_t message_type, uint16_t flags) const {
  rtmsg header{};
  header.rtm_family = uint8_t(family);
  header.rtm_dst_len = prefix_bits;
  header.rtm_table = short_table(table);
  header.rtm_protocol = protocol;
  header.rtm_scope = RT_SCOPE_HOST;
  header.rtm_type = type;
  NetlinkRequest request(message_type, flags, header);
  request.put(RTA_TABLE, table);
  request.put(RTA_OIF, interface);
  request.put(RTA_PRIORITY, metric);
  return request;
}

std::string Route::text() const {
  const std::string kind = type == RTN_LOCAL     ? "local "
                           : type == RTN_UNICAST ? ""
                                                 : "type " + std::to_string(type) + " ";
  const std::string to = prefix_bits == 0 ? "default" : "a /" + std::to_string(prefix_bits) + " network";
  return kind + to + " table " + std::to_string(table) + " (" + family_name(family) + ")";
}

Route everything_local(int family, uint32_t table, uint32_t loopback, uint32_t metric) {
  Route route;
  route.family = family;
  route.table = table;
  route.type = RTN_LOCAL;
  route.interface = loopback;
  route.metric = metric;
  route.protocol = kOurProtocol;
  return route;
}

RoutingRule mark_rule(int family, uint32_t mark, uint32_t table, uint32_t priority) {
  RoutingRule rule;
  rule.family = family;
  rule.priority = priority;
  rule.action = FR_ACT_TO_TBL;
  rule.table = table;
  rule.mark = mark;
  rule.mask = kWholeMark;
  rule.protocol = kOurProtocol;
  return rule;
}

RoutingState compare_routing(const RoutingRule& wanted_rule, const Route& wanted_route,
                             const std::vector<RoutingRule>& rules, const std::vector<Route>& routes,
                             const std::vector<shm::Host>& sources) {
  RoutingState state;
  // Where an administrator has added it, it is at another place.
  uint32_t priority = wanted_rule.priority;
  for (const RoutingRule& rule : rules) {
    if (rule.family == wanted_rule.family && rule.protocol != kOurProtocol && same_rule(rule, wanted_rule))
      priority = rule.priority;
  }
  const auto conflict = [&](std::string text) {
    if (state.conflict.empty()) state.conflict = std::move(text);
  };
  for (const RoutingRule& rule : rules) {
    if (rule.family != wanted_rule.family) continue;
    if (rule.protocol == kOurProtocol && same_rule(rule, wanted_rule)) {
      state.our_rules.push_back(rule);
    } else if (same_rule(rule, wanted_rule)) {
      state.rule_by_administrator = true;
    } else if (rule.action == FR_ACT_TO_TBL && rule.table == wanted_rule.table) {
      conflict("the rule \"" + rule.text() + "\" uses the table of /upstream/transparent/table");
    } else if (rule.mark == wanted_rule.mark && rule.mask == kWholeMark && !rule.inverted) {
      conflict("the rule \"" + rule.text() + "\" uses the mark of /upstream/transparent/mark");
    } else if (rule.priority <= wanted_rule.priority && takes(rule, wanted_rule.mark)) {
      conflict("the rule \"" + rule.text() +
               "\" comes first and matches packets with the mark of /upstream/transparent/mark");
    } else if (rule.priority <= priority) {
      const auto source = std::ranges::find_if(
          sources, [&](const shm::Host& host) { return takes_from(rule, wanted_rule.mark, host); });
      if (source != sources.end()) {
        conflict("the rule \"" + rule.text() + "\" comes before the one of mode \"transparent\" (priority " +
                 std::to_string(priority) +
                 ", /upstream/transparent/priority), and would take what smbd answers from " +
                 shm::host_text(*source));
      }
    }
  }
  for (const Route& route : routes) {
    if (route.family != wanted_route.family || route.table != wanted_route.table) continue;
    if (!same_route(route, wanted_route)) {
      conflict("the route \"" + route.text() + "\" is in the table of /upstream/transparent/table");
    } else if (route.protocol == kOurProtocol) {
      state.our_routes.push_back(route);
    } else {
      state.route_by_administrator = true;
    }
  }
  return state;
}

}  // namespace smbdirect::daemon
