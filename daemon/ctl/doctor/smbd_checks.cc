// SPDX-License-Identifier: MIT
// The smbd behind the daemon, in the way in which the upstream mode reaches it.
#include <algorithm>
#include <array>
#include <cerrno>
#include <random>
#include <sys/wait.h>

#include "daemon/ctl/doctor/checks.h"
#include "daemon/ctl/doctor/smb2_negotiate.h"
#include "daemon/upstream/handoff/samba_settings.h"

namespace smbdirect::daemon::doctor {
namespace {

constexpr uint16_t kSmb3 = 0x0300;
constexpr const char* kStartSmbd = "\"systemctl start smbd\" (\"ss -ltnp\" shows where it listens)";

template <size_t Count>
std::array<std::byte, Count> random_bytes() {
  std::random_device random;
  std::array<std::byte, Count> bytes;
  for (std::byte& byte : bytes) byte = std::byte(random() & 0xff);
  return bytes;
}

std::string advice(const Patient& patient, int error) {
  if (!patient.smbd_elsewhere.empty()) return "start smbd there, and let its firewall pass the port";
  if (error == ECONNREFUSED)
    return std::string(kStartSmbd) +
           "; with \"bind interfaces only\" it listens on \"interfaces\" of smb.conf alone";
  if (error == EADDRNOTAVAIL || error == EHOSTUNREACH || error == ENETUNREACH)
    return "correct /upstream/address (or the listener's address, which is used where that is not set)";
  return "\"systemctl restart smbd\", and see its log; perhaps a firewall drops the packets (\"nft list "
         "ruleset\")";
}

Findings judge(const Patient& patient, const std::string& at, const Negotiated& said) {
  Findings found;
  if (said.status != 0 || said.dialect < kSmb3) {
    return {failed("smbd at " + at + " does not agree to SMB3 (it answers a NEGOTIATE with " +
                       (said.status != 0 ? "an error)" : "SMB2)"),
                   "\"server max protocol = SMB3\" in [global] of its smb.conf, then restart it")};
  }
  const bool known = patient.smbd_elsewhere.empty() && patient.smb_conf.has_value();
  if (!said.multi_channel && (!known || patient.smb_conf->is_yes("server multi channel support"))) {
    found.push_back(failed(
        "smbd at " + at + " does not offer multichannel" +
            (known ? ", though smb.conf has it: it runs with older settings" : ""),
        known ? "\"systemctl restart smbd\""
              : "\"server multi channel support = yes\" in [global] of its smb.conf, then restart it"));
  }
  if (said.signing_required &&
      (!known || !is_one_of(patient.smb_conf->global("server signing"), {"required", "mandatory"}))) {
    found.push_back(
        warning("smbd at " + at +
                    " demands signing (a domain controller does by default): all data goes inside "
                    "messages, none by RDMA",
                "\"server signing = auto\" in [global] of its smb.conf, then restart it"));
  }
  found.push_back(ok("smbd answers at " + at));
  return found;
}

/// smbd runs, and its "hosts allow" or "hosts deny" is against us.
Finding judge_refusal(const Patient& patient, const std::string& at) {
  if (patient.pool->upstream_mode != UpstreamMode::connect) {
    return ok("smbd listens at " + at +
              "; it refuses this host itself (\"hosts allow\"), so no more was asked");
  }
  return failed("smbd at " + at +
                    " refuses this host (\"hosts allow\", \"hosts deny\"), from which all clients come "
                    "in mode \"connect\"",
                "let smb.conf admit this host's own address and the pool's /upstream/allow say which clients "
                "may come, or "
                "use mode \"transparent\", where smbd sees each client's address");
}

Finding check_programs(const Patient& patient) {
  const HandoffConfig& handoff = patient.pool->handoff;
  for (const auto& [pointer, path] : {std::pair{"/upstream/handoff/smbd", handoff.smbd},
                                      std::pair{"/upstream/handoff/testparm", handoff.testparm}}) {
    if (patient.host.kind(path) != Host::FileKind::program) {
      return failed(
          std::string("mode \"handoff\" starts '") + path + "', which is no program (" + pointer + ")",
          "install Samba, or set " + std::string(pointer) + " to the program's path");
    }
  }
  return ok("mode \"handoff\" has its programs");
}

Finding check_pid_file(const Patient& patient) {
  std::string directory = patient.pool->handoff.pid_directory;
  if (directory.empty() && patient.smb_conf) directory = patient.smb_conf->global("pid directory");
  if (directory.empty()) return skipped("the directory of smbd's pid file is not known");
  const std::string file = directory + "/smbd.pid";
  const auto holder = patient.host.lock_holder(file);
  if (holder && *holder != 0) return ok("smbd runs (pid " + std::to_string(*holder) + ")");
  if (!holder && holder.error().system_errno != ENOENT) {
    return failed("mode \"handoff\" looks for smbd: " + holder.error().text(),
                  "ask as root; /upstream/handoff/pid_directory "
                  "names the directory");
  }
  return failed("smbd is not running (" + (holder ? "no process has locked " : std::string("there is no ")) +
                    file + "), and mode \"handoff\" serves nobody then",
                "\"systemctl start smbd\", or set /upstream/handoff/pid_directory to its \"pid directory\"");
}

/// With durable handles an `smbd -i` panics when a client leaves.
Finding check_durable_handles(const Patient& patient) {
  if (patient.testparm.empty()) return skipped("there is no testparm");
  const auto output = patient.host.run(patient.testparm, patient.testparm_arguments({kNoDurableHandles}));
  if (!output) return skipped("durable handles: " + output.error().text());
  std::string names;
  for (const std::string& section : sections_with_durable_handles(output->out)) names += " [" + section + "]";
  if (names.empty()) return ok("durable handles are off for mode \"handoff\"");
  return failed("mode \"handoff\" cannot be used: \"durable handles\" is on in" + names,
                "set it to \"no\" there, or use mode \"transparent\"");
}

Finding check_family(const Patient& patient, int family) {
  const TransparentConfig& wanted = patient.pool->transparent;
  const std::string name = family_name(family);
  const auto state = patient.host.routing(family, *patient.pool);
  if (!state) return skipped("routing of " + name + ": " + state.error().text());
  if (!state->conflict.empty()) {
    return failed("mode \"transparent\": " + state->conflict + ", and is not smbdirectd's",
                  "remove it, or choose another mark, table or priority in /upstream/transparent");
  }
  if (!patient.daemon) return ok("nothing is in the way of mode \"transparent\" (" + name + ")");
  const std::string restart =
      "\"systemctl restart smbdirectd\" adds it again; find out what removes it (NetworkManager, "
      "systemd-networkd and firewall scripts do)";
  if (state->our_rules.empty() && !state->rule_by_administrator) {
    return failed("mode \"transparent\": the " + name + " routing rule for the mark is gone (\"ip " +
                      (family == AF_INET6 ? "-6 " : "") + "rule\" shows them)",
                  restart);
  }
  if (state->our_routes.empty() && !state->route_by_administrator) {
    return failed(
        "mode \"transparent\": the " + name + " route in table " + std::to_string(wanted.table) + " is gone",
        restart);
  }
  if (const auto tried = patient.host.try_transparent(family, *patient.pool); !tried) {
    return failed("mode \"transparent\": " + tried.error().text(),
                  "see \"ip rule\" for a rule before ours, and \"nft list ruleset\" for what drops or "
                  "changes packets on lo");
  }
  return ok("rule, route and a test connection of mode \"transparent\" are in order (" + name + ")");
}

Findings check_transparent(const Patient& patient) {
  if (!patient.host.is_root()) return {skipped("only root can look at what mode \"transparent\" needs")};
  if (!patient.smbd_elsewhere.empty()) return {};
  Findings found;
  const auto sysctl = patient.host.read("/proc/sys/net/ipv4/tcp_fwmark_accept");
  if (patient.daemon && sysctl && trimmed(*sysctl) == "0") {
    found.push_back(failed(
        "mode \"transparent\": the sysctl net.ipv4.tcp_fwmark_accept is 0, so smbd's answers leave this host",
        "\"sysctl net.ipv4.tcp_fwmark_accept=1\", and find out what set it back (/etc/sysctl.d)"));
    return found;
  }
  found.push_back(check_family(patient, AF_INET));
  const bool v6 =
      std::ranges::any_of(patient.listeners, [](const auto& one) { return !shm::is_ipv4(one.host); });
  if (v6) found.push_back(check_family(patient, AF_INET6));
  return found;
}

}  // namespace

Findings check_smbd(const Patient& patient) {
  Findings found;
  for (const sockaddr_storage& address : patient.smbd_addresses()) {
    const std::string at = shm::address_text(address);
    const auto answer =
        patient.host.exchange(address, negotiate_request(random_bytes<16>(), random_bytes<32>()));
    if (!answer) {
      found.push_back(failed("smbd does not answer at " + at + ": " + answer.error().text(),
                             advice(patient, answer.error().system_errno)));
      continue;
    }
    if (is_refusal(*answer)) {
      found.push_back(judge_refusal(patient, at));
      continue;
    }
    const auto said = parse_negotiated(*answer);
    if (!said) {
      found.push_back(
          failed("who answers at " + at + " speaks no SMB2, so it is no smbd",
                 "\"ss -ltnp\" shows who listens there; correct /upstream/address and /upstream/port"));
      continue;
    }
    for (Finding& one : judge(patient, at, *said)) found.push_back(std::move(one));
  }
  return found;
}

Findings check_upstream_mode(const Patient& patient) {
  switch (patient.pool->upstream_mode) {
    case UpstreamMode::transparent:
      return check_transparent(patient);
    case UpstreamMode::handoff:
      if (!patient.host.is_root()) return {skipped("only root can look at what mode \"handoff\" needs")};
      return {check_programs(patient), check_pid_file(patient), check_durable_handles(patient)};
    case UpstreamMode::connect:
      break;
    case UpstreamMode::native:
      if (!patient.daemon) return {skipped("the daemon does not run, so no server can register")};
      if (patient.daemon->has_server) return {ok("a server has registered")};
      return {failed("mode \"channel\": no server has registered with the daemon, so no client is served",
                     "start the server that uses libsmbdirect-peer, with the socket " + patient.socket)};
  }
  return {ok("mode \"connect\" needs nothing of this host")};
}

}  // namespace smbdirect::daemon::doctor
