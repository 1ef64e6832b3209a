// SPDX-License-Identifier: MIT
// All the pool's listeners, of either fabric. Supervisor only: workers get connections, never a listener.
// Bound at start (so that a bad address shows at once), listening once a worker is ready. When the supervisor
// dies the kernel closes them all, and another supervisor can listen at once.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "daemon/accept/incoming.h"
#include "daemon/accept/rdma_listeners.h"
#include "daemon/accept/tcp_listeners.h"
#include "shm/loop/loop.h"

namespace smbdirect::daemon {

class Listeners {
 public:
  using CameIn = std::function<void(std::unique_ptr<Incoming> incoming, const sockaddr_storage& peer,
                                    const sockaddr_storage& local)>;

  Listeners(shm::Loop& loop, const PoolConfig& config, const CameIn& came_in);

  /// Errors say what to do about them.
  [[nodiscard]] shm::Result<> bind();
  [[nodiscard]] shm::Result<> listen();
  /// After everything that came in is with a worker or dropped.
  void close();

  /// While held nothing is accepted; clients wait in the kernel's queue.
  void hold(bool held);
  /// "127.0.0.1 port 5445 (iwarp), 192.0.2.1 port 445 (verbs)", with the ports the system chose.
  [[nodiscard]] std::string text() const;

 private:
  TcpListeners tcp_;
  RdmaListeners cm_;
};

}  // namespace smbdirect::daemon
