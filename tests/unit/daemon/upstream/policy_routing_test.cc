// SPDX-License-Identifier: MIT
#include "daemon/upstream/policy_routing.h"

#include <array>
#include <linux/fib_rules.h>
#include <linux/rtnetlink.h>

#include <doctest/doctest.h>

using namespace smbdirect::daemon;
namespace shm = smbdirect::shm;

namespace {

const RoutingRule kRule = mark_rule(AF_INET, 0x534d42, 5342, 100);
const Route kRoute = everything_local(AF_INET, 5342, 1, 0);

/// The kernel tells a rule in the form in which it is asked for one.
NetlinkMessage as_message(NetlinkRequest request) {
  const auto bytes = request.finish(1);
  const auto header = netlink_value<nlmsghdr>(bytes);
  return {header.nlmsg_type, {bytes.begin() + NLMSG_HDRLEN, bytes.end()}};
}

shm::Host host(const char* text) { return shm::host_of(*shm::address_from_text(text, 0)); }

RoutingState compare(const std::vector<RoutingRule>& rules, const std::vector<Route>& routes = {}) {
  return compare_routing(kRule, kRoute, rules, routes, {host("192.0.2.1"), host("10.88.0.101")});
}

/// As of "ip rule add from ... lookup 77 pref ...".
RoutingRule from(const char* network, uint8_t bits, uint32_t priority) {
  RoutingRule rule;
  rule.family = AF_INET;
  rule.priority = priority;
  rule.action = FR_ACT_TO_TBL;
  rule.table = 77;
  rule.source = host(network);
  rule.source_bits = bits;
  return rule;
}

}  // namespace

TEST_CASE("a rule and a route survive the way to netlink and back") {
  for (const int family : {AF_INET, AF_INET6}) {
    const RoutingRule rule = mark_rule(family, 0x534d42, 5342, 100);
    CHECK(RoutingRule::parse(as_message(rule.request(RTM_NEWRULE, 0))) == rule);
    const Route route = everything_local(family, 254, 1, 1024);
    CHECK(Route::parse(as_message(route.request(RTM_NEWROUTE, 0))) == route);
  }
  CHECK(kRule.text() == "fwmark 0x534d42 lookup 5342 (IPv4, priority 100)");
  CHECK(kRoute.text() == "local default table 5342 (IPv4)");
}

TEST_CASE("what is no rule or is cut off is none") {
  CHECK_FALSE(RoutingRule::parse({RTM_NEWROUTE, std::vector<std::byte>(64)}));
  CHECK_FALSE(RoutingRule::parse({RTM_NEWRULE, std::vector<std::byte>(sizeof(fib_rule_hdr) - 1)}));
  CHECK_FALSE(Route::parse({RTM_NEWROUTE, {}}));
  // An attribute that claims more than is there ends the list.
  auto message = as_message(kRule.request(RTM_NEWRULE, 0));
  message.body.resize(message.body.size() - 5);
  CHECK(RoutingRule::parse(message)->protocol == 0);
  CHECK(RoutingRule::parse(message)->table == 5342);
}

TEST_CASE("selectors beside the mark make a rule another one") {
  auto request = kRule.request(RTM_NEWRULE, 0);
  SUBCASE("an interface") { request.put(FRA_IIFNAME, std::array<char, 4>{'e', 't', 'h', 0}); }
  SUBCASE("a suppressed default route") { request.put(FRA_SUPPRESS_PREFIXLEN, int32_t(0)); }
  CHECK(RoutingRule::parse(as_message(request))->narrowed);
}

TEST_CASE("suppressing nothing is no selector") {
  auto request = kRule.request(RTM_NEWRULE, 0);
  request.put(FRA_SUPPRESS_PREFIXLEN, int32_t(-1));
  CHECK_FALSE(RoutingRule::parse(as_message(request))->narrowed);
}

TEST_CASE("empty tables hold nothing of ours and nothing in the way") {
  const auto state = compare({});
  CHECK(state.our_rules.empty());
  CHECK(state.our_routes.empty());
  CHECK_FALSE(state.rule_by_administrator);
  CHECK_FALSE(state.route_by_administrator);
  CHECK(state.conflict.empty());
}

TEST_CASE("our own is told from an administrator's of the same content") {
  RoutingRule rule = kRule;
  rule.priority = 32'000;
  Route route = kRoute;
  route.metric = 1;
  auto state = compare({rule}, {route});
  CHECK(state.our_rules == std::vector{rule});
  CHECK(state.our_routes == std::vector{route});
  CHECK(state.conflict.empty());

  rule.protocol = 0;  // "ip rule add"
  route.protocol = RTPROT_BOOT;
  state = compare({rule}, {route});
  CHECK(state.our_rules.empty());
  CHECK(state.our_routes.empty());
  CHECK(state.rule_by_administrator);
  CHECK(state.route_by_administrator);
  CHECK(state.conflict.empty());
}

TEST_CASE("foreign uses of our mark and table are named") {
  RoutingRule rule = kRule;
  rule.protocol = 0;
  SUBCASE("our mark, another table") {
    rule.table = 77;
    CHECK(compare({rule}).conflict ==
          "the rule \"fwmark 0x534d42 lookup 77 (IPv4, priority 100)\" uses the mark of "
          "/upstream/transparent/mark");
  }
  SUBCASE("our mark, for some packets only") {
    rule.narrowed = true;
    rule.table = 77;
    CHECK(compare({rule}).conflict.contains("uses the mark of /upstream/transparent/mark"));
  }
  SUBCASE("another mark, our table") {
    rule.mark = 7;
    CHECK(compare({rule}).conflict ==
          "the rule \"fwmark 0x7 lookup 5342 (IPv4, priority 100)\" uses the table of "
          "/upstream/transparent/table");
  }
  SUBCASE("some bits of our mark, and comes first") {
    rule.mark = 2;
    rule.mask = 2;
    rule.table = 77;
    CHECK(compare({rule}).conflict.contains("\"fwmark 0x2/0x2 lookup 77 (IPv4, priority 100)\" comes first"));
  }
  SUBCASE("every mark but one, and comes first") {
    rule.mark = 0xca6c;
    rule.inverted = true;
    rule.table = 77;
    rule.priority = 99;
    CHECK(
        compare({rule}).conflict.contains("\"not fwmark 0xca6c lookup 77 (IPv4, priority 99)\" comes first"));
  }
  SUBCASE("a route in our table") {
    Route route = kRoute;
    route.type = RTN_UNICAST;
    route.interface = 2;
    route.protocol = RTPROT_BOOT;
    CHECK(compare({}, {route}).conflict ==
          "the route \"default table 5342 (IPv4)\" is in the table of /upstream/transparent/table");
  }
}

TEST_CASE("rules that do not touch ours are no conflict") {
  RoutingRule rule = kRule;
  rule.protocol = 0;
  rule.table = 77;
  SUBCASE("some bits of our mark, but later") {
    rule.mark = rule.mask = 2;
    rule.priority = 101;
  }
  SUBCASE("bits that our mark has not") { rule.mark = rule.mask = 0x80000; }
  SUBCASE("no mark at all") { rule.mark = rule.mask = 0; }
  SUBCASE("of the other family") {
    rule.family = AF_INET6;
    rule.mark = 0x534d42;
  }
  CHECK(compare({rule}).conflict.empty());
}

TEST_CASE("a rule for what comes from smbd's address, before ours, takes its answers") {
  CHECK(compare({from("10.88.0.101", 32, 100)}).conflict ==
        "the rule \"from 10.88.0.101 lookup 77 (IPv4, priority 100)\" comes before the one of mode "
        "\"transparent\" "
        "(priority 100, /upstream/transparent/priority), and would take what smbd answers from 10.88.0.101");
  CHECK(compare({from("10.88.0.0", 16, 7)})
            .conflict.contains("\"from 10.88.0.0/16 lookup 77 (IPv4, priority 7)\""));
  RoutingRule rule = from("10.88.0.101", 32, 100);
  SUBCASE("also with our mark, or with any but another") {
    rule.mark = rule.mask = 2;
    CHECK_FALSE(compare({rule}).conflict.empty());
    rule.mask = 3;
    rule.mark = 1;
    CHECK(compare({rule}).conflict.empty());
    rule.inverted = true;
    CHECK_FALSE(compare({rule}).conflict.empty());
  }
  SUBCASE("also where ours is an administrator's, and later than it would be") {
    RoutingRule ours = kRule;
    ours.protocol = 0;
    ours.priority = 200;
    rule.priority = 150;
    CHECK(compare({ours, rule}).conflict.contains("(priority 200, "));
    rule.priority = 201;
    CHECK(compare({ours, rule}).conflict.empty());
  }
  SUBCASE("also where it drops them") {
    rule.action = FR_ACT_BLACKHOLE;
    CHECK_FALSE(compare({rule}).conflict.empty());
  }
}

TEST_CASE("a rule for other packets, after ours or that leads nowhere else is no conflict") {
  RoutingRule rule = from("10.88.0.101", 32, 100);
  SUBCASE("after ours") { rule.priority = 101; }
  SUBCASE("from elsewhere") { rule = from("10.88.0.102", 32, 100); }
  SUBCASE("from another network") { rule = from("10.89.0.0", 16, 100); }
  SUBCASE("of other ports") { rule.narrowed = true; }
  SUBCASE("to this host's own addresses") { rule.table = RT_TABLE_LOCAL; }
  SUBCASE("to another rule") { rule.action = FR_ACT_GOTO; }
  CHECK(compare({rule}).conflict.empty());
}

TEST_CASE("a rule's source survives the way to netlink and back") {
  const RoutingRule four = from("10.88.0.0", 16, 100);
  CHECK(RoutingRule::parse(as_message(four.request(RTM_NEWRULE, 0))) == four);
  RoutingRule six = from("2001:db8::", 32, 100);
  six.family = AF_INET6;
  CHECK(RoutingRule::parse(as_message(six.request(RTM_NEWRULE, 0))) == six);
  CHECK(six.text() == "from 2001:db8::/32 lookup 77 (IPv6, priority 100)");
}
