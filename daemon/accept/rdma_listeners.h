// SPDX-License-Identifier: MIT
// The pool's listeners on RDMA devices: one rdma_cm file with a listening id for each. Supervisor only; opens
// no verbs device. When the supervisor dies the kernel ends them.
//
// An address whose RDMA device is missing is not an error: the listener waits and is made when the device
// appears. If the connection manager itself is missing, the pool does not start.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "daemon/accept/incoming.h"
#include "daemon/config/pool_config.h"
#include "daemon/contract/rdma_ucm.h"
#include "shm/base/log.h"
#include "shm/base/result.h"
#include "shm/loop/borrowed_watch.h"
#include "shm/loop/loop.h"

namespace smbdirect::daemon {

class RdmaListeners {
 public:
  using Requested = std::function<void(std::unique_ptr<Incoming> request, const sockaddr_storage& peer,
                                       const sockaddr_storage& local)>;

  /// calls: of a test; null: the system's.
  RdmaListeners(shm::Loop& loop, const PoolConfig& config, Requested requested,
                RdmaCm::Calls* calls = nullptr);

  /// As Listeners (listeners.h). Nothing happens where the pool has no such listener.
  [[nodiscard]] shm::Result<> bind();
  [[nodiscard]] shm::Result<> listen();
  void hold(bool held);
  /// No request of this object's may be left.
  void close();
  [[nodiscard]] std::vector<std::string> texts() const;

 private:
  struct Listener {
    ListenerConfig config;
    std::optional<uint32_t> id;
    bool told = false;  // that it waits for its device
  };
  [[nodiscard]] shm::Result<> make(Listener& listener);
  [[nodiscard]] shm::Result<> make_or_wait(Listener& listener);
  void lose(Listener& listener, const CmEvent& event);
  void retry();
  void read_events();
  void requested(const CmEvent& event);

  shm::Loop& loop_;
  Requested requested_;
  RdmaCm::Calls* calls_;
  std::vector<Listener> listeners_;
  std::optional<RdmaCm> file_;
  std::optional<shm::ReadWatch> watch_;  // after the file, which it watches
  shm::Timer retry_timer_;
  bool listening_ = false;
  bool held_ = false;
  shm::log::RateLimit trouble_log_;
  shm::log::Limited claim_log_;
};

}  // namespace smbdirect::daemon
