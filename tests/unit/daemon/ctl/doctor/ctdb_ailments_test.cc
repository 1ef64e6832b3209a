// SPDX-License-Identifier: MIT
// Prepared ailments of a node of CTDB's, and nodes without one.
#include <functional>

#include <doctest/doctest.h>

#include "daemon/ctl/doctor/ctdb_node.h"
#include "daemon/ctl/doctor/examination.h"
#include "tests/unit/daemon/ctl/doctor/ailment.h"

using namespace smbdirect::daemon;          // NOLINT: a test of one program's parts
using namespace smbdirect::daemon::doctor;  // NOLINT
namespace shm = smbdirect::shm;

namespace {

const std::string kScripts = kCtdbScripts;

void enable(FakeHost& host, const std::string& script) {
  host.kinds[kScripts + "/" + script + ".script"] = Host::FileKind::program;
}

/// Listens on every address, of which 192.0.2.10 stays and 192.0.2.101 has come; 192.0.2.102 is elsewhere.
void join_cluster(FakeHost& host) {
  host.set_conf("clustering", "Yes");
  pool(host, R"({"address": "0.0.0.0", "port": 5445})");
  host.status_is("0.0.0.0 port 5445 (iwarp)");
  replace(host.files["/proc/net/tcp"], "0A0200C0", "00000000");
  host.files["/etc/ctdb/public_addresses"] =
      "# those that move\n192.0.2.101/24 eth0\n192.0.2.102/24\teth0,eth1\n2001:db8::5/64 eth0\n";
  host.own_addresses.push_back({FakeHost::host("192.0.2.101"), "eth0"});
  enable(host, "00.ctdb");
  enable(host, "09.smbdirectd");
  enable(host, "10.interface");
  host.kinds["/usr/sbin/iptables"] = host.kinds["/usr/sbin/ethtool"] = Host::FileKind::program;
  host.files["/proc/sys/net/ipv4/ip_nonlocal_bind"] = "0\n";
}

void use_per_ip_routing(FakeHost& host, const std::string& priority) {
  enable(host, "13.per_ip_routing");
  host.files["/etc/ctdb/script.options"] =
      "CTDB_PER_IP_ROUTING_RULE_PREF=7\nCTDB_PER_IP_ROUTING_CONF=\"/etc/ctdb/policy_routing\"\n";
  host.files[kScripts + "/13.per_ip_routing.options"] =
      "CTDB_PER_IP_ROUTING_RULE_PREF=" + priority + " # ours\n";
}

struct NodeAilment : Ailment {
  NodeAilment(const char* named, const std::function<void(FakeHost&)>& then, const char* by, State how,
              const char* told, const char* to_do, bool only = true)
      : Ailment{named,
                [then](FakeHost& host) {
                  join_cluster(host);
                  then(host);
                },
                by,
                how,
                told,
                to_do,
                only} {}
};

const std::vector<NodeAilment>& ailments() {
  static const std::vector<NodeAilment> kAilments{
      {"the event script is not enabled",
       [](FakeHost& h) { h.kinds.erase(kScripts + "/09.smbdirectd.script"); }, "ctdb-script", State::warning,
       "does not run the event script", "ctdb event script enable legacy 09.smbdirectd"},
      {"its link leads nowhere",
       [](FakeHost& h) {
         h.kinds.erase(kScripts + "/09.smbdirectd.script");
         h.links[kScripts + "/09.smbdirectd.script"] = "/usr/share/ctdb/events/legacy/09.smbdirectd.script";
       },
       "ctdb-script", State::warning, "does not run the event script", "on every node"},
      {"it runs too late",
       [](FakeHost& h) {
         h.kinds.erase(kScripts + "/09.smbdirectd.script");
         enable(h, "60.smbdirectd");
       },
       "ctdb-script", State::warning, "60.smbdirectd runs after 10.interface", "enable 09.smbdirectd"},
      {"started by systemd, too",
       [](FakeHost& h) {
         h.links["/etc/systemd/system/smbd.service.wants/smbdirectd.service"] =
             "/lib/systemd/system/smbdirectd.service";
       },
       "ctdb-script", State::warning, "both at boot (/etc/systemd/system/smbd.service.wants/",
       "systemctl disable smbdirectd"},
      {"started by an init script, too",
       [](FakeHost& h) { h.links["/etc/rc2.d/S01smbdirectd"] = "../init.d/smbdirectd"; }, "ctdb-script",
       State::warning, "both at boot (/etc/rc2.d/S01smbdirectd)", "update-rc.d smbdirectd disable"},
      {"no iptables", [](FakeHost& h) { h.kinds.erase("/usr/sbin/iptables"); }, "ctdb-script", State::warning,
       "there is no iptables", "install iptables"},
      {"no ethtool", [](FakeHost& h) { h.kinds.erase("/usr/sbin/ethtool"); }, "ctdb-script", State::warning,
       "there is no ethtool", "install ethtool"},
      {"every address can be bound to",
       [](FakeHost& h) { h.files["/proc/sys/net/ipv4/ip_nonlocal_bind"] = "1\n"; }, "ctdb-addresses",
       State::failed, "net.ipv4.ip_nonlocal_bind is 1", "sysctl net.ipv4.ip_nonlocal_bind=0"},
      {"every IPv6 address can be bound to",
       [](FakeHost& h) { h.files["/proc/sys/net/ipv6/ip_nonlocal_bind"] = "1\n"; }, "ctdb-addresses",
       State::failed, "net.ipv6.ip_nonlocal_bind is 1", "/etc/sysctl.d"},
      {"listeners on public addresses alone",
       [](FakeHost& h) {
         pool(h, R"({"address": "192.0.2.101", "port": 5445}, {"address": "192.0.2.102", "port": 5445})");
         h.status_is("192.0.2.101 port 5445 (iwarp), 192.0.2.102 port 5445 (iwarp), waiting for its address");
       },
       "ctdb-addresses", State::warning, "every listener is on a public address", "0.0.0.0"},
      {"RDMA is announced on a public address alone",
       [](FakeHost& h) { h.set_conf("interfaces", "192.0.2.101;capability=RDMA,speed=25000000000 eth1"); },
       "ctdb-addresses", State::warning, "on no address that stays",
       "an address of its own on the RDMA network"},
      {"smbd does not see the public address",
       [](FakeHost& h) {
         pool(h, R"({"address": "0.0.0.0", "port": 5445})",
              R"("mode": "connect", "address": "127.0.0.1", "allow": ["192.0.2.0/24"])");
       },
       "ctdb-mode", State::warning, "smbd sees 127.0.0.1", "transparent"},
      {"CTDB's rules come before ours", [](FakeHost& h) { use_per_ip_routing(h, "10"); }, "ctdb-mode",
       State::failed, "have priority 10", "/upstream/transparent/priority"},
  };
  return kAilments;
}

}  // namespace

TEST_CASE("a healthy node of CTDB's") {
  const std::vector<std::function<void(FakeHost&)>> healthy{
      join_cluster,
      [](FakeHost& host) {
        join_cluster(host);
        use_per_ip_routing(host, "200");
      },
      [](FakeHost& host) {  // a script of the administrator's own, and rules that are not in use
        join_cluster(host);
        host.kinds.erase(kScripts + "/09.smbdirectd.script");
        enable(host, "08.smbdirectd");
        host.files["/etc/ctdb/script.options"] = "CTDB_PER_IP_ROUTING_RULE_PREF=10\n";
      },
      [](FakeHost& host) {  // one of its own, and one that is on another node now
        join_cluster(host);
        pool(host, R"({"address": "192.0.2.10", "port": 5445}, {"address": "192.0.2.102", "port": 5445})");
        host.status_is(
            "192.0.2.10 port 5445 (iwarp), 192.0.2.102 port 5445 (iwarp), waiting for its address");
      },
      [](FakeHost& host) {  // no node at all: nothing of CTDB's is looked at
        host.files["/proc/sys/net/ipv4/ip_nonlocal_bind"] = "1\n";
        host.links["/etc/systemd/system/smbd.service.wants/smbdirectd.service"] = "smbdirectd.service";
      },
  };
  for (const auto& prepare : healthy) (void)check_healthy(prepare);
}

TEST_CASE("each ailment of a node of CTDB's is found by its check and told with its fix") {
  for (const NodeAilment& ailment : ailments()) check_found(ailment);
  for (const CheckRow& row : check_table()) {
    INFO(row.name);
    const bool prepared =
        std::ranges::any_of(ailments(), [&](const Ailment& one) { return row.name == one.check; });
    CHECK(prepared == row.name.starts_with("ctdb-"));
  }
}

TEST_CASE("what CTDB's files say") {
  FakeHost host;
  CHECK(CtdbNode::read(host).public_addresses.empty());
  join_cluster(host);
  use_per_ip_routing(host, "'300'");
  const CtdbNode node = CtdbNode::read(host);
  CHECK(node.public_addresses.size() == 3);
  CHECK(node.moves(FakeHost::host("192.0.2.102")));
  CHECK(node.moves(FakeHost::host("2001:db8::5")));
  CHECK_FALSE(node.moves(FakeHost::host("192.0.2.10")));
  CHECK(node.scripts ==
        std::vector<std::string>{"00.ctdb", "09.smbdirectd", "10.interface", "13.per_ip_routing"});
  CHECK(node.rule_priority == 300U);
}
