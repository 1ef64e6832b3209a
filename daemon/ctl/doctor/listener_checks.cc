// SPDX-License-Identifier: MIT
// The listeners: their addresses, their ports, and whether one of them takes an SMB Direct connection.
#include <algorithm>
#include <sys/wait.h>

#include "daemon/ctl/doctor/checks.h"
#include "daemon/ctl/doctor/ctdb_node.h"

namespace smbdirect::daemon::doctor {
namespace {

constexpr uint16_t kIwarpPort = 5445;

std::string owners_text(const std::vector<SocketOwner>& owners) {
  std::string text;
  for (const SocketOwner& one : owners)
    text += (text.empty() ? "" : ", ") + one.name + " (pid " + std::to_string(one.pid) + ")";
  return text;
}

bool module_loaded(Host& host, const std::string& name) {
  return host.kind("/sys/module/" + name).has_value();
}

Finding taken(const PoolListener& listener, const std::string& by) {
  const std::string port = std::to_string(listener.config.port);
  std::string fix = "stop it, or give the listener another address or port (\"ss -ltnp sport = :" + port +
                    "\" shows who listens)";
  if (by.find("smbd (") != std::string::npos && by.find("smbdirectd (") == std::string::npos) {
    fix =
        "smbd keeps its port: give an iwarp listener 5445, where clients look for it, or bind smbd to other "
        "addresses (\"interfaces\" and \"bind interfaces only = yes\" in smb.conf)";
  }
  return failed(listener.text() + " is taken by " + by, fix);
}

Finding check_tcp_port(const Patient& patient, const PoolListener& listener) {
  std::string others;
  bool unknown = false;
  for (const TcpListener& socket : patient.tcp) {
    if (!collides(socket, listener.host, listener.config.port)) continue;
    if (socket.inode == 0) return taken(listener, "the kernel itself (ksmbd)");
    const auto owners = owners_of(patient.host, socket.inode);
    const bool ours =
        patient.daemon && std::ranges::find(owners, patient.daemon->pid, &SocketOwner::pid) != owners.end();
    if (ours) return ok("the daemon listens on " + listener.text());
    if (owners.empty()) unknown = true;
    if (others.empty()) others = owners_text(owners);
  }
  if (!others.empty()) return taken(listener, others);
  if (unknown && patient.daemon) return skipped(listener.text() + ": who listens there, only root can see");
  if (unknown) return taken(listener, "a process that only root can see");
  if (!patient.daemon) return ok(listener.text() + " is free");
  return failed("the daemon runs, but nobody listens on " + listener.text(),
                "\"systemctl restart smbdirectd\"; \"journalctl -u smbdirectd\" says why it does not listen");
}

/// "running", from /sys/class/ksmbd-control/stats: its version of the interface, its state, and figures.
bool ksmbd_serves(Host& host) {
  const auto stats = host.read("/sys/class/ksmbd-control/stats");
  return stats && stats->find("running") != std::string::npos;
}

/// A public address of CTDB's that another node has now, or may have: the daemon serves it when it comes.
bool elsewhere_now(const Patient& patient, const PoolListener& listener) {
  return !listener.everywhere() && !listener.address && CtdbNode::read(patient.host).moves(listener.host);
}

/// Where to connect to reach a listener from here; nothing: it cannot be reached so.
std::optional<shm::Host> way_to(const Patient& patient, const PoolListener& listener) {
  if (!listener.everywhere()) return listener.host;
  if (!listener.verbs()) {
    const auto address = shm::address_from_text(shm::is_ipv4(listener.host) ? "127.0.0.1" : "::1", 0);
    return address ? std::optional(shm::host_of(*address)) : std::nullopt;
  }
  for (const Host::Address& address : patient.addresses) {
    if (shm::is_ipv4(address.host) != shm::is_ipv4(listener.host)) continue;
    const auto serves = [&](const RdmaPort& port) { return port.active() && port.serves(address); };
    if (std::ranges::any_of(patient.rdma, serves)) return address.host;
  }
  return std::nullopt;
}

/// What follows "set up within" in the program's output.
std::string time_of(std::string_view output) {
  for (const std::string& line : words_of(output, "\n")) {
    const std::string_view text = trimmed(line);
    if (text.starts_with("set up within")) return std::string(trimmed(text.substr(13)));
  }
  return "";
}

Finding judge_probe(const PoolListener& listener, const std::string& to,
                    const shm::Result<ProgramOutput>& output) {
  if (!output) {
    return failed("no SMB Direct with " + to + ": " + output.error().text(),
                  "\"smbdirectctl workers\" shows whether they work; the daemon's log says more");
  }
  if (WIFEXITED(output->wait_status) && WEXITSTATUS(output->wait_status) == 0) {
    const std::string time = time_of(output->out);
    return ok("SMB Direct works with " + to + (listener.verbs() ? " (verbs)" : " (iwarp)") +
              (time.empty() ? "" : ", set up within " + time));
  }
  std::string_view said = trimmed(output->err);
  constexpr std::string_view kProgram = "smbdirect-connect: ";
  if (said.starts_with(kProgram)) said.remove_prefix(kProgram.size());
  const size_t end = std::min(said.find('\n'), said.size());
  const std::string_view advice = trimmed(said.substr(end));
  return failed(
      end == 0 ? "no SMB Direct with " + to : std::string(said.substr(0, end)),
      advice.empty() ? "the daemon's log says more (\"journalctl -u smbdirectd\")" : std::string(advice));
}

Finding probe(const Patient& patient, const PoolListener& listener) {
  if (elsewhere_now(patient, listener))
    return skipped(listener.text() + ": the public address is on another node of CTDB's");
  const auto host = way_to(patient, listener);
  if (!host) return skipped(listener.text() + ": no address of this host is on an RDMA device");
  // From an address of this host to itself: the source is the same.
  if (const Access access = patient.pool->access.check(*host); access != Access::allowed) {
    return skipped(listener.text() + ": this host is no client of the pool's (" +
                   std::string(access_text(access)) + "); try smbdirect-connect --probe on a client");
  }
  const std::string text = shm::host_text(*host);
  const std::string to =
      (shm::is_ipv4(*host) ? text : "[" + text + "]") + ":" + std::to_string(listener.config.port);
  return judge_probe(
      listener, to,
      patient.host.run(patient.wanted.connect_program,
                       {"--probe", "--fabric", listener.verbs() ? "verbs" : "iwarp", "--to", to}));
}

}  // namespace

Findings check_addresses(const Patient& patient) {
  Findings found;
  for (const PoolListener& one : patient.listeners) {
    if (one.everywhere() || one.address || elsewhere_now(patient, one)) continue;
    found.push_back(
        failed("listener " + one.text() + ": no interface of this host has the address " + one.config.address,
               "give the interface the address (\"ip address\" shows those it has): it is served from then "
               "on; or correct \"listeners\" "
               "in the pool file"));
  }
  if (found.empty()) found.push_back(ok("this host has every listener's address"));
  return found;
}

Findings check_ports(const Patient& patient) {
  Findings found;
  for (const PoolListener& one : patient.listeners) {
    if (!one.verbs()) found.push_back(check_tcp_port(patient, one));
  }
  if (found.empty()) found.push_back(ok("no listener uses a TCP port"));
  return found;
}

Findings check_port_numbers(const Patient& patient) {
  Findings found;
  const auto has = [&](const PoolListener& like, uint16_t port) {
    return std::ranges::any_of(patient.listeners, [&](const PoolListener& other) {
      return other.config.fabric == like.config.fabric && other.host == like.host &&
             other.config.port == port;
    });
  };
  for (const PoolListener& one : patient.listeners) {
    const auto device = std::ranges::find_if(
        patient.rdma, [&](const RdmaPort& port) { return one.address && port.serves(*one.address); });
    const bool iwarp = !one.verbs() || (device != patient.rdma.end() && device->iwarp);
    const uint16_t port = iwarp ? kIwarpPort : ListenerConfig::kVerbsPort;
    if (has(one, port)) continue;
    found.push_back(warning(
        "listener " + one.text() + ": Windows and newer Linux clients look for SMB Direct on port " +
            std::to_string(port) + (iwarp ? " of iWARP" : " of RoCE and InfiniBand") + " and no other",
        "set its \"port\" to " + std::to_string(port) + ", or add a listener with it"));
  }
  if (found.empty()) found.push_back(ok("the ports are those of SMB Direct"));
  return found;
}

Findings check_ksmbd(const Patient& patient) {
  if (!module_loaded(patient.host, "ksmbd") && !patient.host.kind("/sys/class/ksmbd-control"))
    return {ok("ksmbd is not loaded")};
  const std::string fix =
      "\"ksmbd.control -s; modprobe -r ksmbd\", and \"systemctl disable ksmbd\" so that it does not come "
      "back";
  if (ksmbd_serves(patient.host) && patient.has_verbs()) {
    return {failed("ksmbd, the kernel's SMB server, runs: it has the RDMA ports 445 and 5445 of every device",
                   fix)};
  }
  return {warning(
      "ksmbd, the kernel's SMB server, is loaded: when it runs it takes SMB's ports, also on RDMA devices",
      fix)};
}

Findings check_path(const Patient& patient) {
  if (patient.host.kind(patient.wanted.connect_program) != Host::FileKind::program) {
    return {skipped("the program smbdirect-connect, which tries it, is not at '" +
                    patient.wanted.connect_program + "' (--connect PATH names it)")};
  }
  Findings found;
  for (const PoolListener& one : patient.listeners) found.push_back(probe(patient, one));
  return found;
}

}  // namespace smbdirect::daemon::doctor
