// SPDX-License-Identifier: MIT
// Upstream mode "channel" on the supervisor's side: asks the server's main process to start a child for a
// client that no process serves, and has each channel for a process that already serves its client passed to
// it, through a worker that has a channel with that process (the workers are tried in turn). Owned by the
// supervisor; its loop's thread. When it dies, workers and server processes keep their channels.
//
// Workers are not trusted: a message counts only for a connection that the worker has, and can ask for one
// child for each.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "daemon/clients/client_registry.h"
#include "daemon/clients/server_registration.h"
#include "daemon/config/pool_config.h"
#include "daemon/prefork/connection_table.h"
#include "daemon/prefork/worker_pool.h"
#include "shm/base/connection_id.h"
#include "shm/base/log.h"
#include "shm/loop/loop.h"
#include "shm/totals.h"

namespace smbdirect::daemon {

class ChannelRouter {
 public:
  /// How long a process has to take a channel that was passed to it.
  static constexpr uint64_t kPassMs = 1'000;
  /// By however many workers: then another process is started.
  static constexpr uint64_t kAllPassesMs = 2'000;

  ChannelRouter(shm::Loop& loop, const PoolConfig& config, WorkerPool& workers, const ConnectionTable& table);

  /// Null until then, and where the pool has no native peers.
  void use(ClientRegistry* clients);
  /// Somebody registers at the control socket.
  void registered(shm::UniqueFd socket);
  /// Gives a worker the registry, and its socket at which processes open their channels.
  void worker_ready(size_t slot);
  /// The answer to a connection's CLAIM.
  void answer(size_t slot, shm::ConnectionId connection, ClaimOutcome outcome);

  // WANT_PROCESS, PASS, NOT_PASSED, CHANNEL_UP.
  void wanted(size_t slot, shm::ConnectionId connection, const protocol::proxy::Cookie& cookie);
  void passed(size_t slot, shm::ConnectionId connection, shm::UniqueFd socket);
  void not_passed(size_t slot, uint64_t sequence);
  void channel_up(size_t slot, shm::ConnectionId connection) { settle({slot, connection}); }

  /// The connection has ended, or its worker.
  void forget(size_t slot, shm::ConnectionId connection);
  void forget_worker(size_t slot);
  void close();

  // --- the registration's way to another daemon ---
  /// The main process's socket and the number of the next request to it; not valid where there is none. This
  /// pool starts no more processes.
  [[nodiscard]] std::pair<shm::UniqueFd, uint64_t> hand_over();
  void inherit(shm::UniqueFd socket, uint64_t next_request);

  /// Why a process is none of the registered server's; null: it is.
  [[nodiscard]] const char* objection_to(pid_t process) const;
  /// Of the main process; 0: none is registered.
  [[nodiscard]] pid_t main_pid() const { return main_ ? main_->pid() : 0; }
  [[nodiscard]] shm::Totals totals() const;

 private:
  using Key = std::pair<size_t, shm::ConnectionId>;  // slot, connection

  /// A channel on its way to the process that serves its client: once the worker has said PASS.
  struct Pass {
    shm::UniqueFd socket;
    shm::Peer process;
    std::vector<size_t> untried;  // workers, the next one last
    uint64_t until_ms{};          // all of it
    size_t with{};                // the slot that was asked last
    uint64_t sequence{};
    std::unique_ptr<shm::Timer> deadline;
  };

  [[nodiscard]] std::string listener_path(size_t slot) const;
  void pass_on(const Key& key);
  void not_taken(const Key& key);
  void give_up(const Key& key);
  void settle(const Key& key) { passes_.erase(key); }
  void failed(uint64_t number, int error);
  void gone(const std::string& why);
  void refuse(const Key& key, const std::string& why, int error);
  void tell(size_t slot, const FromSupervisor& message, int descriptor = -1);

  shm::Loop& loop_;
  const PoolConfig& config_;
  WorkerPool& workers_;
  const ConnectionTable& table_;
  ClientRegistry* clients_ = nullptr;
  std::unique_ptr<ServerRegistration> main_;
  std::map<Key, uint64_t> asked_;  // -> the number of the request; until the connection ends
  std::map<Key, Pass> passes_;
  mutable shm::log::Limited log_;
  uint64_t next_ = 1;
  uint64_t processes_asked_ = 0;
  uint64_t channels_passed_ = 0;
};

}  // namespace smbdirect::daemon
