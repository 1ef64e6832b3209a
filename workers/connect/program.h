// SPDX-License-Identifier: MIT
// smbdirect-connect at work: the listener, one session per client, the statistics over all of them. Owned
// by main(), on one loop and thread.
#pragma once

#include <memory>
#include <vector>

#include <uv.h>

#include "shm/base/result.h"
#include "shm/loop/loop.h"
#include "workers/connect/client_session.h"
#include "workers/connect/dialer.h"
#include "workers/connect/listener.h"
#include "workers/connect/options.h"
#include "workers/connect/places.h"
#include "workers/memory/housekeeper.h"

namespace smbdirect::workers::connect {

class Program {
 public:
  /// stopped: called once from the loop when the last session is done after stop(), or when idle with
  /// --exit-when-idle.
  Program(uv_loop_t& loop, const Options& options, std::function<void()> stopped);

  /// Begins to listen.
  [[nodiscard]] shm::Result<> start();
  /// "127.0.0.1:4450".
  [[nodiscard]] std::string address() const;
  /// No more clients; ends every session, kindly the first time and at once the second.
  void stop();

  /// Of all sessions, those that have ended included.
  [[nodiscard]] Counters counters() const;
  [[nodiscard]] size_t sessions() const { return sessions_.size(); }

 private:
  void accepted(shm::UniqueFd client, const sockaddr_storage& peer);
  void vacate(const ClientSession& session);
  void serve_places();
  void destroy_ended();
  void reap();
  void progress();
  void trim_some(size_t share);

  uv_loop_t& loop_;
  Options options_;
  SessionConfig session_config_;
  std::function<void()> stopped_;
  Pools pools_;
  Dialer dialer_;  // goes after the sessions and before the memory it has registered
  shm::Deferred reap_;
  shm::Timer progress_;
  shm::Timer hurry_;
  std::unique_ptr<Listener> listener_;
  Places places_;
  shm::Deferred serve_;
  shm::Timer serve_again_;
  std::vector<std::unique_ptr<ClientSession>> sessions_;
  Housekeeper housekeeper_;
  size_t trimmed_ = 0;  // where the next turn begins
  Counters ended_;
  Counters shown_;
  bool served_ = false;
  bool stopping_ = false;
};

}  // namespace smbdirect::workers::connect
