// SPDX-License-Identifier: MIT
// Streams to smbd that the supervisor opens (upstream modes "transparent" and "handoff"): a worker has no
// privilege to use a client's address. The worker owns one SupervisorConnector; each session's attempt is
// registered in it until the supervisor has answered or the attempt times out. When the supervisor dies,
// attempts time out.
#pragma once

#include <cstdint>
#include <memory>
#include <unordered_map>

#include <uv.h>

#include "shm/base/connection_id.h"
#include "workers/upstream/upstream.h"

namespace smbdirect::workers {

class SupervisorConnector {
 public:
  /// ask: sends WANT_SMBD for an connection (contract.h). timeout_ms: until an answer is given up on.
  SupervisorConnector(uv_loop_t& loop, std::function<void(shm::ConnectionId connection)> ask,
                      uint32_t timeout_ms);
  ~SupervisorConnector();

  [[nodiscard]] std::unique_ptr<Upstream> request(shm::ConnectionId connection);
  /// The supervisor's answer: a stream, or why there is none. Nobody waits for it: it is closed.
  void answered(shm::ConnectionId connection, shm::Result<shm::UniqueFd> stream);

 private:
  class Request;

  uv_loop_t& loop_;
  std::function<void(shm::ConnectionId)> ask_;
  uint32_t timeout_ms_;
  std::unordered_map<shm::ConnectionId, Request*> waiting_;
};

}  // namespace smbdirect::workers
