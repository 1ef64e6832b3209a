// SPDX-License-Identifier: MIT
// The pool file, the daemon that runs with it, and what is installed.
#include <algorithm>
#include <cerrno>

#include "daemon/build_paths.h"
#include "daemon/ctl/doctor/checks.h"

namespace smbdirect::daemon::doctor {
namespace {

/// "44.0": rdma-core's own version ends the name of its library, libibverbs.so.1.14.44.0.
std::string rdma_core_version(Host& host) {
  constexpr std::string_view kLibrary = "libibverbs.so.1.";
  std::vector<std::string> directories{"/usr/lib64", "/usr/lib", "/lib64", "/usr/local/lib"};
  for (const std::string& name : host.list("/usr/lib")) {
    if (name.find("-linux-gnu") != name.npos) directories.push_back("/usr/lib/" + name);
  }
  for (const std::string& directory : directories) {
    for (const std::string& name : host.list(directory)) {
      if (!name.starts_with(kLibrary)) continue;
      const size_t dot = name.find('.', kLibrary.size());
      if (dot != name.npos) return name.substr(dot + 1);
    }
  }
  return "";
}

/// "pid 7 (smbdirectd -s /etc/other.json)", from their command lines.
std::string running_daemons(Host& host) {
  std::string text;
  for (const std::string& name : host.list("/proc")) {
    if (name.find_first_not_of("0123456789") != name.npos) continue;
    const auto command = host.read("/proc/" + name + "/comm");
    if (!command || trimmed(*command) != "smbdirectd") continue;
    std::string words = host.read("/proc/" + name + "/cmdline").value_or("");
    std::ranges::replace(words, '\0', ' ');
    text += (text.empty() ? "pid " : ", pid ") + name + " (" + std::string(trimmed(words)) + ")";
  }
  return text;
}

bool runs_but_refuses(const shm::Error& error) {
  return error.what.find("only root and") != std::string::npos;
}

}  // namespace

Findings check_versions(const Patient& patient) {
  const auto kernel = patient.host.read("/proc/sys/kernel/osrelease");
  const std::string samba = patient.samba_version();
  const std::string rdma_core = rdma_core_version(patient.host);
  return {ok("smbdirectd " + std::string(kVersion) + ", Linux " +
             (kernel ? std::string(trimmed(*kernel)) : "(unknown)") + ", " +
             (samba.empty() ? "no Samba" : "Samba " + samba) + ", " +
             (rdma_core.empty() ? "no rdma-core" : "rdma-core " + rdma_core))};
}

Findings check_root(const Patient& patient) {
  if (patient.host.is_root()) return {ok("runs as root")};
  return {warning(
      "not run as root: other users' sockets and processes cannot be seen, and some checks are skipped",
      "run \"sudo smbdirectctl doctor\"")};
}

Findings check_pool_file(const Patient& patient) {
  const std::string& path = patient.wanted.config_file;
  if (!patient.pool) {
    const int error = patient.pool.error().system_errno;
    std::string fix = "correct it; \"smbdirectd --check-config -s " + path + "\" checks it again";
    if (error == ENOENT)
      fix = "copy the example of the documentation (pool.json) there, or name another file with --configfile";
    if (error == EACCES) fix = "ask as root";
    return {failed(error == 0 ? patient.pool.error().what : "pool file " + patient.pool.error().text(), fix)};
  }
  std::string listeners;
  for (const PoolListener& one : patient.listeners) {
    listeners += (listeners.empty() ? "" : ", ") + one.text() + (one.verbs() ? " (verbs)" : " (iwarp)");
  }
  Findings found{ok(path + ": " + listeners)};
  if (const std::string& user = patient.pool->worker.user; !user.empty() && !patient.host.has_user(user)) {
    return {failed(
        path + ": /user is \"" + user + "\", which this system does not know",
        "\"getent passwd\" lists the users; choose an unprivileged one, or make it (\"useradd --system " +
            user + "\")")};
  }
  if (const std::string& group = patient.pool->control_group;
      !group.empty() && !patient.host.has_group(group)) {
    return {failed(
        path + ": /control/group is \"" + group + "\", which this system does not know",
        "\"getent group\" lists the groups; choose one, or make it (\"groupadd --system " + group + "\")")};
  }
  if (patient.all_on_loopback()) {
    found.push_back(warning(path + ": every listener is on loopback, so only this host can connect",
                            "give \"listeners\" the address of the interface that clients use"));
  }
  return found;
}

Findings check_run_directory(const Patient& patient) {
  const std::string& directory = patient.pool->run_directory;
  if (!patient.host.kind(directory)) return {ok(directory + " is made when the daemon starts")};
  if (const auto ours = patient.host.is_ours_alone(directory); !ours) {
    return {failed(ours.error().text(), "\"chown root: " + directory + "; chmod 0755 " + directory +
                                            "\", or another /run_directory")};
  }
  return {ok(directory + " is the daemon's alone")};
}

Findings check_daemon(const Patient& patient) {
  if (!patient.daemon) {
    const shm::Error& error = patient.daemon.error();
    if (runs_but_refuses(error)) return {failed("the daemon runs, but: " + error.text(), "ask as root")};
    if (error.what.find("Permission denied") != std::string::npos)
      return {failed("the daemon's control socket cannot be reached: " + error.text(), "ask as root")};
    if (const std::string others = running_daemons(patient.host); !others.empty()) {
      return {failed("no smbdirectd answers at " + patient.socket + ", but another one runs: " + others,
                     "name its pool file with --configfile, or stop it and \"systemctl start smbdirectd\"")};
    }
    return {failed(
        "smbdirectd does not run: no answer at " + patient.socket,
        "\"systemctl start smbdirectd\", and when it ends at once \"journalctl -u smbdirectd\" says why")};
  }
  const DaemonStatus& daemon = *patient.daemon;
  const std::string workers =
      std::to_string(daemon.workers_ready) + " of " + std::to_string(daemon.workers) + " workers ready";
  const std::string who = "smbdirectd runs (pid " + std::to_string(daemon.pid) + ")";
  Findings found;
  if (daemon.workers_ready == 0) {
    found.push_back(
        failed(who + ", but none of its workers is ready, so it accepts nobody",
               "\"journalctl -u smbdirectd\" says why they end; \"smbdirectctl workers\" shows them"));
  } else if (daemon.workers_ready < daemon.workers) {
    found.push_back(
        warning(who + ", but only " + workers,
                "\"journalctl -u smbdirectd\" says why they end; \"smbdirectctl workers\" shows them"));
  }
  if (daemon.phase != "serving") {
    found.push_back(
        failed(who + ", but its phase is \"" + daemon.phase + "\", in which it takes no new clients",
               "wait until it has started, or start it again"));
  }
  if (daemon.version != kVersion) {
    found.push_back(
        warning(who + " is version " + daemon.version + ", and this program " + std::string(kVersion),
                "\"smbdirectctl upgrade\" lets the new one take over; no client is turned away"));
  }
  if (found.empty()) found.push_back(ok(who + ", " + workers));
  return found;
}

Findings check_daemon_pool(const Patient& patient) {
  std::string missing;
  for (const PoolListener& one : patient.listeners) {
    if (patient.daemon->listeners.find(one.text() + " (") == std::string::npos)
      missing += (missing.empty() ? "" : ", ") + one.text();
  }
  if (missing.empty()) return {ok("the daemon has the listeners of " + patient.wanted.config_file)};
  return {failed("the running daemon has no listener " + missing + " (it has: " + patient.daemon->listeners +
                     "), so it runs with another pool file or an older state of " +
                     patient.wanted.config_file,
                 "\"smbdirectctl upgrade\" (or restart it), or name its pool file with --configfile")};
}

}  // namespace smbdirect::daemon::doctor
