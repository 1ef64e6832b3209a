// SPDX-License-Identifier: MIT
// A process's event loop, used by one thread at a time (relief.h), and its timers, deferred work and signals.
// Together with watched.h, borrowed_watch.h, loop_wake.h, busy_poll.h and relief.h this is the only code that
// uses libuv's handles.
//
// The loop polls between any two runs of one callback, so a callback that is due again at once cannot keep it
// from its descriptors. Failures of libuv at start-up (out of memory or descriptors) are thrown
// (std::runtime_error).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include <uv.h>

#include "shm/loop/handle.h"

namespace smbdirect::shm {

/// Destroy it last: it waits for every handle's close callback.
class Loop {
 public:
  Loop();
  ~Loop();
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;

  [[nodiscard]] uv_loop_t* get() { return &loop_; }
  void run() { uv_run(&loop_, UV_RUN_DEFAULT); }
  void stop() { uv_stop(&loop_); }
  /// Monotonic milliseconds, now (libuv's own clock stands still during a callback).
  [[nodiscard]] uint64_t now() {
    uv_update_time(&loop_);
    return uv_now(&loop_);
  }

 private:
  uv_loop_t loop_{};
};

/// Runs a callable once, from the loop, soon; for work that must not happen inside another callback. The
/// callback may trigger it again, or destroy it.
class Deferred {
 public:
  Deferred(uv_loop_t& loop, std::function<void()> callback);
  void trigger();
  void cancel();

 private:
  UvOwner<UvBox<uv_idle_t>> box_;
};

/// The callback may start or destroy the timer.
class Timer {
 public:
  /// Counts from the loop's time, which stands still during a callback: for loops whose callbacks are short.
  Timer(uv_loop_t& loop, std::function<void()> callback);
  /// Counts from the true time: a callback here may take long (a fork).
  Timer(Loop& loop, std::function<void()> callback);
  /// Once after `after_ms`, and with `repeat_ms` again and again from then on. Starting again replaces the
  /// former start. Never at once: 0 is the next millisecond.
  void start(uint64_t after_ms, uint64_t repeat_ms = 0);
  void stop();

 private:
  // libuv before 1.45 runs a timer that is due again in the same round of timers, for ever if need be, and
  // polls only then. Here it runs once in a round; what is due again runs after it.
  struct State {
    std::function<void()> callback;
    bool ran = false;
    bool due = false;
  };
  std::shared_ptr<State> state_;  // shared with the callbacks, for this object may be gone
  bool true_time_ = false;
  std::unique_ptr<Deferred> after_round_;
  UvOwner<UvBox<uv_timer_t>> box_;
};

class SignalWatch {
 public:
  SignalWatch(uv_loop_t& loop, int signal, std::function<void()> callback);
  SignalWatch(Loop& loop, int signal, std::function<void()> callback)
      : SignalWatch(*loop.get(), signal, std::move(callback)) {}

 private:
  UvOwner<UvBox<uv_signal_t>> box_;
};

}  // namespace smbdirect::shm
