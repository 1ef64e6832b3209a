// SPDX-License-Identifier: MIT
// The way to smbd for one session: one attempt, whose outcome is a connected TCP stream or the reason why
// there is none. Owned by the session; destroying it gives the attempt up. One thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "shm/result.h"
#include "shm/unique_fd.h"

namespace smbdirect::workers {

class Upstream {
 public:
  using Done = std::function<void(shm::Result<shm::UniqueFd>)>;

  Upstream() = default;
  Upstream(const Upstream&) = delete;
  Upstream& operator=(const Upstream&) = delete;
  virtual ~Upstream() = default;
  /// done is called once, from the loop, never from inside start(), unless this is destroyed first. It may
  /// destroy this.
  virtual void start(Done done) = 0;
};

/// For the connection that was offered under this number.
using OpenUpstream = std::function<std::unique_ptr<Upstream>(uint64_t offer)>;

}  // namespace smbdirect::workers
