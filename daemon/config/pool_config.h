// SPDX-License-Identifier: MIT
// The pool file's contents as values, defaults applied. Made once at start (pool_file.h), read-only
// afterwards; the part that workers need travels to them as WorkerConfig (contract.h), which also holds
// the defaults of those keys. The keys' names, ranges and meaning are in pool_keys.cc.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "daemon/config/access_list.h"
#include "daemon/contract/contract.h"
#include "protocol/proxy/smbdirect_area.h"
#include "shm/base/socket_address.h"

namespace smbdirect::daemon {

enum class Affinity : uint8_t { client, spread };
enum class UpstreamMode : uint8_t { transparent, handoff, connect, native };

struct ListenerConfig {
  std::string address;
  uint16_t port = 5445;  // MS-SMBD 2: SMB Direct over iWARP...
  Fabric fabric = Fabric::iwarp;

  static constexpr uint16_t kVerbsPort = 445;  // ...and over RoCE and InfiniBand

  bool operator==(const ListenerConfig&) const = default;
};

/// Samba's prefork backoff: at once, then backoff_increment more each time, at most maximum_backoff.
struct RestartConfig {
  uint32_t backoff_increment_s = 10;
  uint32_t maximum_backoff_s = 120;
  uint32_t healthy_s = 30;
  uint32_t ready_timeout_ms = 30'000;
  uint32_t ping_interval_ms = 3'000;
  uint32_t ping_timeout_ms = 10'000;
};

/// What mode "transparent" adds to the host's routing (transparent_routes.h).
struct TransparentConfig {
  uint32_t mark = 0x534d42;  // "SMB"
  uint32_t table = 5342;
  uint32_t priority = 90;  // of the rule; before whatever else an administrator, or CTDB (100), has
};

/// How mode "handoff" starts smbd (handoff_connector.h).
struct HandoffConfig {
  std::string smbd = "/usr/sbin/smbd";
  std::string testparm = "/usr/bin/testparm";
  std::string configfile;     // empty: Samba's own default
  std::string pid_directory;  // of the listening smbd; empty: Samba is asked
  uint32_t processes = 1024;
  uint32_t rate_per_client = 5;  // a fork and exec of smbd costs some 40 ms of CPU
};

struct PoolConfig {
  uint32_t workers = 4;
  std::string placement = "none";  // placement_text.h
  std::string run_directory = "/run/smbdirectd";
  Affinity affinity = Affinity::client;
  std::vector<ListenerConfig> listeners;
  UpstreamMode upstream_mode = UpstreamMode::transparent;
  TransparentConfig transparent;
  HandoffConfig handoff;
  std::string module_directory = SMBDIRECT_LINK_DIRECTORY;  // where smbds' modules listen (module_search.h)
  AccessList access;
  uint32_t connections_per_client = 64;  // of WorkerConfig::connections
  uint32_t connections_without_session = 0;
  uint32_t connection_rate_per_client = 100;
  RestartConfig restart;
  uint32_t stop_deadline_ms = 5'000;
  uint32_t drain_deadline_ms = 0;  // none
  std::string control_group;       // empty: none may ask but root and the daemon's user
  WorkerConfig worker;

  /// Of connections, defaults applied.
  [[nodiscard]] uint32_t most_without_session() const {
    constexpr uint32_t kFew = 32;  // a small pool is all theirs
    if (connections_without_session != 0) return std::min(connections_without_session, worker.connections);
    return std::max(worker.connections / 2, std::min(worker.connections, kFew));
  }
  /// Where smbd is that sees the client's address: it answers from there. Empty: at any address of this host.
  [[nodiscard]] std::vector<shm::Host> smbd_addresses() const {
    std::vector<shm::Host> hosts;
    const auto add = [&](const std::string& text) {
      const auto address = shm::address_from_text(text, 0);
      if (address) hosts.push_back(shm::host_of(*address));
      return address && text != "0.0.0.0" && text != "::";
    };
    if (!worker.upstream_address.empty())
      return add(worker.upstream_address) ? hosts : std::vector<shm::Host>{};
    for (const ListenerConfig& listener : listeners) {
      if (!add(listener.address)) return {};
    }
    return hosts;
  }
  /// Whom an address is counted for.
  [[nodiscard]] shm::Host client_of(const sockaddr_storage& address) const {
    return shm::network_of(shm::host_of(address), worker.ipv6_prefix_length);
  }
};

}  // namespace smbdirect::daemon
