// SPDX-License-Identifier: MIT
// All the pool's listeners, of either fabric. Supervisor only: workers get connections, never a listener.
// Bound at start (so that a port that is taken shows at once), listening once a worker is ready. When the
// supervisor dies the kernel closes them all, and another supervisor can listen at once.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "daemon/accept/incoming.h"
#include "daemon/accept/inherited.h"
#include "daemon/accept/rdma_listeners.h"
#include "daemon/accept/tcp_listeners.h"
#include "shm/loop/loop.h"

namespace smbdirect::daemon {

class Listeners {
 public:
  using CameIn = std::function<void(std::unique_ptr<Incoming> incoming, const sockaddr_storage& peer,
                                    const sockaddr_storage& local)>;

  Listeners(shm::Loop& loop, const PoolConfig& config, const CameIn& came_in);

  /// Errors say what to do about them. inherited: are taken where they are still wanted, and the others made.
  [[nodiscard]] shm::Result<> bind(InheritedListeners inherited = {});
  [[nodiscard]] shm::Result<> listen();
  /// After everything that came in is with a worker or dropped.
  void close();

  /// While held nothing is accepted; clients wait in the kernel's queue.
  void hold(bool held);

  // --- their way to another supervisor ---
  /// Nothing is accepted and no listener made, whatever hold() says, while another supervisor takes them.
  void pause(bool paused);
  /// Copies for another supervisor.
  [[nodiscard]] shm::Result<InheritedListeners> copies() const;
  [[nodiscard]] std::vector<RdmaListenerId> rdma_ids() const { return cm_.ids(); }
  /// Between bind() with what was inherited and listen(): moves these ids here.
  [[nodiscard]] shm::Result<> adopt(const std::vector<RdmaListenerId>& ids) { return cm_.adopt(ids); }
  /// A copy of the file that ids move to; not valid where there are no such listeners.
  [[nodiscard]] shm::UniqueFd rdma_file() const { return cm_.file_copy(); }
  /// Of a supervisor that failed to go on with them; its_file: its rdma_file().
  [[nodiscard]] shm::Result<> take_back(const std::vector<RdmaListenerId>& ids, shm::UniqueFd its_file) {
    return cm_.take_back(ids, std::move(its_file));
  }
  /// "127.0.0.1 port 5445 (iwarp), 192.0.2.1 port 445 (verbs)", with the ports the system chose.
  [[nodiscard]] std::string text() const;

 private:
  void hold_or_pause();

  TcpListeners tcp_;
  RdmaListeners cm_;
  bool held_ = false;
  bool paused_ = false;
};

}  // namespace smbdirect::daemon
