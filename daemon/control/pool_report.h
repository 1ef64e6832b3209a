// SPDX-License-Identifier: MIT
// What the daemon answers at its control socket: the pool as JSON. The supervisor itself knows which
// connections and clients there are; their counters come from their worker's scoreboard, and are null while
// that has none. Owned by Control; reads only.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "daemon/accept/dispatcher.h"
#include "daemon/accept/listeners.h"
#include "daemon/clients/channel_router.h"
#include "daemon/clients/client_registry.h"
#include "daemon/config/pool_config.h"
#include "daemon/control/scoreboards.h"
#include "daemon/control/smbd_lookup.h"
#include "daemon/ctl/commands.h"
#include "daemon/prefork/worker_pool.h"
#include "daemon/upstream/module_requests.h"
#include "daemon/upstream/smbd_requests.h"
#include "shm/loop/loop.h"

namespace smbdirect::daemon {

class PoolReport {
 public:
  struct Parts {
    const PoolConfig& config;
    const WorkerPool& workers;
    const Listeners& listeners;
    const Dispatcher& dispatcher;
    const SmbdRequests& smbd_requests;
    const ModuleRequests& module_requests;
    const ChannelRouter& peers;
    const ClientRegistry& clients;
    std::function<std::string_view()> phase;            // of the pool
    std::function<std::vector<std::string>()> leaving;  // addresses
    std::function<pid_t()> former;  // the daemon that this one took over from, while it drains; 0: none
  };
  PoolReport(shm::Loop& loop, const Parts& parts, const Scoreboards& scoreboards);

  [[nodiscard]] nlohmann::ordered_json status() const;
  [[nodiscard]] nlohmann::ordered_json workers() const;
  [[nodiscard]] nlohmann::ordered_json connections() const;
  [[nodiscard]] nlohmann::ordered_json clients();

  /// A worker's process ended that was not asked to.
  void worker_lost() { ++workers_lost_; }

 private:
  /// The rows of connections that the slot really has.
  [[nodiscard]] std::vector<shm::ConnectionRow> rows_of(size_t slot) const;

  shm::Loop& loop_;
  Parts parts_;
  const Scoreboards& scoreboards_;
  uint64_t since_ms_;
  uint64_t workers_lost_ = 0;
  RecentLookup owners_;
};

}  // namespace smbdirect::daemon
