// SPDX-License-Identifier: MIT
// When to start a worker again: Samba's prefork semantics (source4/samba/process_prefork.c) and names. The
// first restart is immediate, each further one waits backoff_increment longer, up to maximum_backoff. Unlike
// in Samba, a worker that was healthy for a while is restarted immediately again. Pure.
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>

namespace smbdirect::daemon {

class Backoff {
 public:
  Backoff(uint64_t increment_ms, uint64_t maximum_ms, uint64_t healthy_ms)
      : increment_ms_(increment_ms), maximum_ms_(maximum_ms), healthy_ms_(healthy_ms) {}

  /// The wait before the next start of a worker that has just ended, after being ready for `ready_ms`
  /// (0: it never was).
  [[nodiscard]] uint64_t next(uint64_t ready_ms) {
    if (ready_ms > 0 && ready_ms >= healthy_ms_) delay_ms_ = 0;
    return std::exchange(delay_ms_, std::min(delay_ms_ + increment_ms_, maximum_ms_));
  }

 private:
  uint64_t increment_ms_;
  uint64_t maximum_ms_;
  uint64_t healthy_ms_;
  uint64_t delay_ms_ = 0;
};

}  // namespace smbdirect::daemon
