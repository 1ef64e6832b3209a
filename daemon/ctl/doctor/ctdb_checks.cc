// SPDX-License-Identifier: MIT
// A node of CTDB's: addresses that come and go, the event script that tells clients of it, and what CTDB's
// own scripts do beside smbdirectd. Skipped where smb.conf does not say "clustering = yes".
#include <algorithm>
#include <string>

#include "daemon/ctl/doctor/checks.h"
#include "daemon/ctl/doctor/ctdb_node.h"

namespace smbdirect::daemon::doctor {
namespace {

constexpr const char* kEnable = "\"ctdb event script enable legacy 09.smbdirectd\" on every node";

bool clustered(const Patient& patient) { return patient.smb_conf->is_yes("clustering"); }

Findings no_node() { return {skipped("smbd is not clustered")}; }

/// The link or the start script by which init starts smbdirectd at boot; empty: it does not.
std::string started_at_boot(Host& host) {
  for (const char* target : {"multi-user.target", "smbd.service", "smb.service"}) {
    std::string path = "/etc/systemd/system/" + std::string(target) + ".wants/smbdirectd.service";
    if (!host.link(path).empty()) return path;
  }
  if (host.kind("/run/systemd/system")) return "";
  for (const std::string& name : host.list("/etc/rc2.d")) {
    if (name.starts_with('S') && name.ends_with("smbdirectd")) return "/etc/rc2.d/" + name;
  }
  return "";
}

Findings check_tools(Host& host) {
  const auto is_there = [&](const std::string& name) {
    return std::ranges::any_of(
        std::vector<std::string>{"/usr/sbin/", "/sbin/", "/usr/bin/"},
        [&](const std::string& directory) { return host.kind(directory + name) == Host::FileKind::program; });
  };
  Findings found;
  if (!is_there("iptables")) {
    found.push_back(
        warning("there is no iptables, with which 10.interface of CTDB keeps clients away from an address "
                "that leaves: clients over TCP may be lost twice",
                "install iptables on every node (Debian's package of CTDB does not ask for it)"));
  }
  if (!is_there("ethtool")) {
    found.push_back(
        warning("there is no ethtool, without which 10.interface of CTDB takes every link to be down",
                "install ethtool on every node"));
  }
  return found;
}

/// What "interfaces" announces with RDMA on an address that stays. Samba before 4.25 tells clients of no
/// other.
bool announces_own_address(const Patient& patient, const CtdbNode& node) {
  const auto announced = patient.smb_conf->interfaces();
  return std::ranges::any_of(patient.addresses, [&](const Host::Address& address) {
    return !shm::is_loopback(address.host) && !node.moves(address.host) &&
           std::ranges::any_of(
               announced, [&](const AnnouncedInterface& one) { return one.rdma && one.covers(address); });
  });
}

bool listens_on_own_address(const Patient& patient, const CtdbNode& node) {
  return std::ranges::any_of(patient.listeners, [&](const PoolListener& one) {
    return one.everywhere() || (!shm::is_loopback(one.host) && !node.moves(one.host));
  });
}

}  // namespace

Findings check_ctdb_script(const Patient& patient) {
  if (!clustered(patient)) return no_node();
  const CtdbNode node = CtdbNode::read(patient.host);
  Findings found;
  const auto script = std::ranges::find_if(
      node.scripts, [](const std::string& name) { return name.ends_with(".smbdirectd"); });
  if (script == node.scripts.end()) {
    found.push_back(
        warning("CTDB does not run the event script of smbdirectd: when a public address leaves this node, "
                "RDMA clients that wait are not told, and nobody restarts a daemon that fails",
                kEnable));
  } else if (*script >= "10") {
    found.push_back(warning("the event script " + *script +
                                " runs after 10.interface, which has deleted a public address by then: its "
                                "clients cannot be told",
                            "disable it, and enable 09.smbdirectd: \"ctdb event script\""));
  }
  if (const std::string link = started_at_boot(patient.host); !link.empty() && script != node.scripts.end()) {
    found.push_back(warning("smbdirectd is started both at boot (" + link + ") and by CTDB",
                            "\"systemctl disable smbdirectd\" (or \"update-rc.d smbdirectd disable\"): CTDB "
                            "starts and stops it with the node, as smbd"));
  }
  for (Finding& one : check_tools(patient.host)) found.push_back(std::move(one));
  if (found.empty()) found.push_back(ok("CTDB runs the event script " + *script));
  return found;
}

Findings check_ctdb_addresses(const Patient& patient) {
  if (!clustered(patient)) return no_node();
  const CtdbNode node = CtdbNode::read(patient.host);
  Findings found;
  for (const char* family : {"ipv4", "ipv6"}) {
    const std::string name = std::string("net.") + family + ".ip_nonlocal_bind";
    const auto value = patient.host.read(std::string("/proc/sys/net/") + family + "/ip_nonlocal_bind");
    if (!value || trimmed(*value) != "1") continue;
    found.push_back(failed(
        "the sysctl " + name +
            " is 1: CTDB takes every address to be this node's already, so none moves, and it bans the node",
        "\"sysctl " + name + "=0\", and take it out of /etc/sysctl.d; smbdirectd does not need it"));
  }
  if (!listens_on_own_address(patient, node)) {
    found.push_back(warning(
        "every listener is on a public address of CTDB's, and smbd tells Windows clients to do RDMA to the "
        "node's own address",
        "let the pool listen on \"0.0.0.0\" (\"::\" for IPv6), which is every address that comes"));
  }
  if (!node.public_addresses.empty() && !announces_own_address(patient, node)) {
    found.push_back(
        warning("\"interfaces\" announces RDMA on no address that stays on this node: Windows clients are "
                "told of none, since smbd leaves public addresses out",
                "give each node an address of its own on the RDMA network, and announce it in smb.conf: "
                "interfaces = \"ADDRESS;capability=RDMA,speed=...\""));
  }
  if (found.empty()) found.push_back(ok("clients are told of an address that stays on this node"));
  return found;
}

Findings check_ctdb_mode(const Patient& patient) {
  if (!clustered(patient)) return no_node();
  const UpstreamMode mode = patient.pool->upstream_mode;
  if (mode == UpstreamMode::connect) {
    return {
        warning("mode \"connect\" in a cluster: smbd sees 127.0.0.1 and not the public address, so it does "
                "not let go of clients whose address moves",
                "set /upstream/mode to \"transparent\"")};
  }
  const CtdbNode node = CtdbNode::read(patient.host);
  const uint32_t ours = patient.pool->transparent.priority;
  if (mode == UpstreamMode::transparent && node.rule_priority && *node.rule_priority <= ours) {
    return {failed(
        "the rules of CTDB's 13.per_ip_routing have priority " + std::to_string(*node.rule_priority) +
            ", and ours of mode \"transparent\" " + std::to_string(ours) +
            ": they take its packets, and no client reaches smbd",
        "set /upstream/transparent/priority below CTDB_PER_IP_ROUTING_RULE_PREF, and restart smbdirectd")};
  }
  return {ok("smbd sees the clients' addresses, and their public address")};
}

}  // namespace smbdirect::daemon::doctor
