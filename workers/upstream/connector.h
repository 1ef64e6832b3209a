// SPDX-License-Identifier: MIT
// Upstream mode "connect": one TCP connection to a listening smbd, opened without blocking. Owned by a
// session; destroying it closes what it holds. One thread.
#pragma once

#include <cstdint>
#include <string>
#include <sys/socket.h>

#include <uv.h>

#include "shm/base/result.h"
#include "shm/base/unique_fd.h"
#include "shm/loop/loop.h"
#include "shm/loop/watched.h"
#include "workers/upstream/upstream.h"

namespace smbdirect::workers {

class Connector final : public Upstream {
 public:
  /// address: numeric IPv4 or IPv6.
  Connector(uv_loop_t& loop, std::string address, uint16_t port, uint32_t timeout_ms);
  void start(Done done) override;

 private:
  void finish(shm::Result<shm::UniqueFd> result);
  void on_ready(int status);
  [[nodiscard]] std::string what() const;

  uv_loop_t& loop_;
  std::string address_;
  uint16_t port_;
  uint32_t timeout_ms_;
  Done done_;
  int start_errno_ = 0;
  shm::Timer timer_;
  shm::Watched<shm::UniqueFd> socket_;
};

}  // namespace smbdirect::workers
