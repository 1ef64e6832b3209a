// SPDX-License-Identifier: MIT
// The pool's listening sockets (iwarp). Supervisor only: workers get connections, never a listener, so
// neither a dead worker nor one that outlives its supervisor keeps a port busy. Bound at start (so that a
// busy port shows at once), listening once a worker is ready. IPv6 sockets take no IPv4 peers (IPV6_V6ONLY).
//
// An address that this host does not have now is not an error: a cluster's public addresses come and go. The
// listener is there before the address, and serves as soon as it comes.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "daemon/accept/inherited.h"
#include "daemon/config/pool_config.h"
#include "shm/base/log.h"
#include "shm/base/result.h"
#include "shm/base/unique_fd.h"
#include "shm/loop/borrowed_watch.h"
#include "shm/loop/loop.h"

namespace smbdirect::daemon {

class TcpListeners {
 public:
  using Accepted = std::function<void(shm::UniqueFd connection, const sockaddr_storage& peer,
                                      const sockaddr_storage& local)>;

  TcpListeners(shm::Loop& loop, const PoolConfig& config, Accepted accepted);

  /// Errors say what to do about them. inherited: as Listeners (listeners.h).
  [[nodiscard]] shm::Result<> bind(std::vector<InheritedListeners::Socket> inherited = {});
  [[nodiscard]] shm::Result<> listen();
  void close();

  /// While held nothing is accepted; clients wait in the kernel's queue.
  void hold(bool held);
  /// "127.0.0.1 port 5445 (iwarp)" of each, with the ports the system chose.
  [[nodiscard]] std::vector<std::string> texts() const;
  /// For another supervisor.
  [[nodiscard]] shm::Result<std::vector<InheritedListeners::Socket>> copies() const;

 private:
  struct Socket {
    ListenerConfig config;
    uint16_t port = 0;  // that it is bound to
    shm::UniqueFd fd;   // before the watch, which must go first
    std::optional<shm::ReadWatch> watch;
  };
  [[nodiscard]] static shm::Result<> bind_one(Socket& socket);
  void accept_some(Socket& socket);
  void watch_all(bool on);
  void rest(int error);

  shm::Loop& loop_;
  Accepted accepted_;
  std::vector<std::unique_ptr<Socket>> sockets_;
  bool held_ = false;
  bool resting_ = false;  // out of descriptors or memory, until the timer fires
  shm::Timer rest_timer_;
  shm::log::RateLimit rest_log_;
};

}  // namespace smbdirect::daemon
