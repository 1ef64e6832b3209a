// SPDX-License-Identifier: MIT
// The pool's listeners on RDMA devices: one rdma_cm file with a listening id for each. Supervisor only; opens
// no verbs device. When the supervisor dies the kernel ends them.
//
// An address that no RDMA device has, or nothing on this host, is not an error: the listener waits, and is
// made when a device has it. If the connection manager itself is missing, the pool does not start.
//
// Listening ids can move to the file of another supervisor (MIGRATE_ID), and back. The requests that they
// have announced move with them as events, but the ids of these requests stay on the former file: they are
// fetched from there, for as long as such events are left.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "daemon/accept/incoming.h"
#include "daemon/accept/inherited.h"
#include "daemon/config/pool_config.h"
#include "daemon/contract/rdma_ucm.h"
#include "shm/base/log.h"
#include "shm/base/result.h"
#include "shm/base/unique_fd.h"
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

  /// As Listeners (listeners.h). Nothing happens where the pool has no such listener. inherited: listeners of
  /// another supervisor's whose ids, on that file, are adopted later: those are not made here.
  [[nodiscard]] shm::Result<> bind(const std::vector<ListenerConfig>& inherited = {},
                                   shm::UniqueFd its_file = {});
  [[nodiscard]] shm::Result<> listen();
  void hold(bool held);
  /// No listener is made.
  void pause(bool paused);
  /// No request of this object's may be left.
  void close();
  [[nodiscard]] std::vector<std::string> texts() const;

  [[nodiscard]] std::vector<ListenerConfig> configured() const;
  /// Those of devices that are there.
  [[nodiscard]] std::vector<RdmaListenerId> ids() const;
  [[nodiscard]] shm::UniqueFd file_copy() const;
  /// Moves ids of the supervisor that was named in bind(), where this pool wants them. An error leaves those
  /// that have moved here, for that supervisor to take back.
  [[nodiscard]] shm::Result<> adopt(const std::vector<RdmaListenerId>& ids);
  /// Moves those of these ids that are on the other file back.
  [[nodiscard]] shm::Result<> take_back(const std::vector<RdmaListenerId>& ids, shm::UniqueFd its_file);

 private:
  struct Listener {
    ListenerConfig config;
    std::optional<uint32_t> id;
    bool told = false;       // that it waits
    bool homeless = false;   // for its address, which no interface has; else for its device
    bool inherited = false;  // its id is another supervisor's, until adopt()
  };
  [[nodiscard]] shm::Result<> make(Listener& listener);
  [[nodiscard]] shm::Result<> make_or_wait(Listener& listener);
  void lose(Listener& listener, const CmEvent& event);
  void retry();
  void read_events();
  [[nodiscard]] bool fetch(const CmEvent& request);
  void requested(const CmEvent& event);
  [[nodiscard]] bool any_missing() const;

  shm::Loop& loop_;
  Requested requested_;
  RdmaCm::Calls* calls_;
  std::vector<Listener> listeners_;
  std::optional<RdmaCm> file_;
  std::optional<shm::ReadWatch> watch_;  // after the file, which it watches
  shm::UniqueFd former_file_;            // where announced requests may still be
  shm::Timer retry_timer_;
  bool listening_ = false;
  bool held_ = false;
  shm::log::RateLimit trouble_log_;
  shm::log::Limited claim_log_;
};

}  // namespace smbdirect::daemon
