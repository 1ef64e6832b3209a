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
  struct Limits {
    uint64_t increment_ms = 0;
    uint64_t maximum_ms = 0;
    uint64_t healthy_ms = 0;
  };

  /// The wait before the next start of a worker that has just ended, after being ready for `ready_ms`
  /// (0: it never was). limits: as they are now.
  [[nodiscard]] uint64_t next(const Limits& limits, uint64_t ready_ms) {
    if (ready_ms > 0 && ready_ms >= limits.healthy_ms) delay_ms_ = 0;
    return std::min(std::exchange(delay_ms_, std::min(delay_ms_ + limits.increment_ms, limits.maximum_ms)),
                    limits.maximum_ms);
  }
  /// The next worker here is not to wait for what those before it did.
  void reset() { delay_ms_ = 0; }

 private:
  uint64_t delay_ms_ = 0;
};

}  // namespace smbdirect::daemon
