// SPDX-License-Identifier: MIT
// libuv's handles as owned objects. A handle's memory must outlive its owner until libuv has closed it,
// so each lives in a heap block that frees itself in the close callback; an owner may therefore be
// destroyed at any time, in its own callback too. Supervisor process, its one loop's thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <type_traits>

#include <uv.h>

#include "shm/base/result.h"

namespace smbdirect::daemon {

/// The loop. Destroy it last: it waits for every handle's close callback.
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

namespace detail {

template <class Handle>
struct Block {
  Handle handle{};
  std::function<void()> callback;
};
template <class Handle>
struct CloseBlock {
  void operator()(Block<Handle>* block) const {
    uv_close(reinterpret_cast<uv_handle_t*>(&block->handle), [](uv_handle_t* handle) {
      std::unique_ptr<Block<Handle>>(static_cast<Block<Handle>*>(handle->data)).reset();
    });
  }
};
template <class Handle>
using BlockPtr = std::unique_ptr<Block<Handle>, CloseBlock<Handle>>;

}  // namespace detail

class Timer {
 public:
  Timer(Loop& loop, std::function<void()> callback);
  /// Once after `delay_ms`, or every `repeat_ms` from then on. Starting again replaces the former start.
  /// Never at once: a delay of 0 is the next millisecond.
  void start(uint64_t delay_ms, uint64_t repeat_ms = 0);
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
  detail::BlockPtr<uv_idle_t> after_round_;
  detail::BlockPtr<uv_timer_t> block_;
};

/// Calls back while a descriptor is readable or its other side is gone. The descriptor stays the
/// caller's, who must keep it open as long as this lives.
class ReadWatch {
 public:
  [[nodiscard]] static shm::Result<ReadWatch> make(Loop& loop, int fd, std::function<void()> callback);
  void start();
  void stop();

 private:
  explicit ReadWatch(detail::BlockPtr<uv_poll_t> block) : block_(std::move(block)) {}
  detail::BlockPtr<uv_poll_t> block_;
};

class SignalWatch {
 public:
  SignalWatch(Loop& loop, int signal, std::function<void()> callback);

 private:
  detail::BlockPtr<uv_signal_t> block_;
};

}  // namespace smbdirect::daemon
