// SPDX-License-Identifier: MIT
// What is known of a host before the checks: the facts that several of them need, gathered once. The host
// outlives it. smbdirectctl only.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <sys/types.h>
#include <vector>

#include "daemon/config/pool_file.h"
#include "daemon/ctl/doctor/host.h"
#include "daemon/ctl/doctor/rdma_ports.h"
#include "daemon/ctl/doctor/smb_conf.h"
#include "daemon/ctl/doctor/tcp_table.h"
#include "daemon/ctl/options.h"
#include "shm/base/result.h"

namespace smbdirect::daemon::doctor {

/// What a running daemon says of itself.
struct DaemonStatus {
  std::string version;
  pid_t pid = 0;
  std::string phase;
  std::string upstream;
  std::string listeners;
  uint32_t workers = 0;
  uint32_t workers_ready = 0;
  bool has_server = false;  // of mode "channel": its main process has registered
};

/// A listener, and the address of this host that it stands for.
struct PoolListener {
  ListenerConfig config;
  shm::Host host{};
  std::optional<Host::Address> address{};  // nothing: no interface has it, or it stands for all

  [[nodiscard]] bool everywhere() const { return is_wildcard(host); }
  [[nodiscard]] bool verbs() const { return config.fabric == Fabric::verbs; }
  /// "192.0.2.10 port 445".
  [[nodiscard]] std::string text() const { return config.address + " port " + std::to_string(config.port); }
};

struct Patient {
  Host& host;
  const DoctorOptions& wanted;

  shm::Result<PoolConfig> pool;  // the error has a line for each problem
  std::vector<PoolListener> listeners{};
  std::string socket;  // the daemon's
  shm::Result<DaemonStatus> daemon{};
  std::vector<Host::Address> addresses;
  std::vector<RdmaPort> rdma;
  std::vector<TcpListener> tcp;
  std::string testparm{};  // empty: there is none
  shm::Result<SmbConf> smb_conf{};
  std::string smbd_elsewhere{};  // mode "connect": smbd's address, where that is another host's

  [[nodiscard]] static Patient meet(Host& host, const DoctorOptions& wanted);

  [[nodiscard]] bool has_verbs() const;
  [[nodiscard]] bool serves_smbd() const;  // and not a server of the administrator's own
  [[nodiscard]] bool all_on_loopback() const;
  /// "/etc/samba/smb.conf", as an administrator calls it.
  [[nodiscard]] std::string smb_conf_name() const;
  /// "4.17.12-Debian", of the programs that are installed; empty: not known.
  [[nodiscard]] std::string samba_version() const;
  /// Where clients' connections go to, for each listener; each once.
  [[nodiscard]] std::vector<sockaddr_storage> smbd_addresses() const;
  /// Of this host, with which smbd's configuration file is named.
  [[nodiscard]] std::vector<std::string> testparm_arguments(std::vector<std::string> more) const;
};

}  // namespace smbdirect::daemon::doctor
