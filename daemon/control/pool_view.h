// SPDX-License-Identifier: MIT
// What the daemon tells at its control socket: the pool as JSON, put together from those who know. Which
// connections and clients there are, the supervisor knows itself; what they have done is on their worker's
// scoreboard, and null while that shows nothing. Owned by Control; reads only.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "daemon/accept/dispatcher.h"
#include "daemon/accept/listeners.h"
#include "daemon/clients/clients.h"
#include "daemon/clients/peer_desk.h"
#include "daemon/config/pool_config.h"
#include "daemon/control/boards.h"
#include "daemon/ctl/ctl_commands.h"
#include "daemon/prefork/worker_slot.h"
#include "daemon/upstream/smbd_desk.h"

namespace smbdirect::daemon {

class PoolView {
 public:
  struct Parts {
    const PoolConfig& config;
    const std::vector<std::unique_ptr<WorkerSlot>>& workers;
    const Listeners& listeners;
    const Dispatcher& dispatcher;
    const SmbdDesk& desk;
    const PeerDesk& peers;
    const Clients& clients;
    std::function<std::string_view()> phase;  // of the pool
  };
  PoolView(Loop& loop, const Parts& parts, const Boards& boards);

  /// An object with the command's member.
  [[nodiscard]] nlohmann::ordered_json answer(CtlCommand command) const;

 private:
  [[nodiscard]] nlohmann::ordered_json status() const;
  [[nodiscard]] nlohmann::ordered_json workers() const;
  [[nodiscard]] nlohmann::ordered_json connections() const;
  [[nodiscard]] nlohmann::ordered_json clients() const;
  /// The rows of connections that the slot really has.
  [[nodiscard]] std::vector<shm::ConnectionRow> rows_of(size_t slot) const;

  Loop& loop_;
  Parts parts_;
  const Boards& boards_;
  uint64_t since_ms_;
};

}  // namespace smbdirect::daemon
