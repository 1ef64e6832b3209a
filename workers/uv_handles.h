// SPDX-License-Identifier: MIT
// libuv handles with one owner. A handle outlives its wrapper until libuv has closed it, so the wrapper
// owns heap memory that the close callback frees. Callbacks never throw into libuv. One loop, one thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include <uv.h>

namespace smbdirect::workers {

/// Heap memory of a libuv handle and the callable it runs.
template <class Handle, class... Args>
struct UvBox {
  Handle handle{};
  std::function<void(Args...)> callback;
  bool closed = false;

  static UvBox& of(Handle* handle) { return *static_cast<UvBox*>(handle->data); }
  /// Runs the callback, unless the owner has let go of the handle.
  static void run(Handle* handle, Args... args) {
    UvBox& box = of(handle);
    if (!box.closed && box.callback) box.callback(args...);
  }
  /// Gives the box to libuv, which frees it once the handle is closed. The callback is not called again;
  /// it is destroyed only then, for it may be running now.
  static void dispose(UvBox* box) {
    box->closed = true;
    uv_close(reinterpret_cast<uv_handle_t*>(&box->handle), [](uv_handle_t* handle) {
      const std::unique_ptr<UvBox> dies(static_cast<UvBox*>(handle->data));
    });
  }
};

template <class Box>
struct UvDeleter {
  void operator()(Box* box) const { Box::dispose(box); }
};

/// One-shot timer. The callback may start or destroy the timer.
class Timer {
 public:
  Timer(uv_loop_t& loop, std::function<void()> callback);
  void start(uint64_t after_ms);
  void stop();

 private:
  using Box = UvBox<uv_timer_t>;
  std::unique_ptr<Box, UvDeleter<Box>> box_;
};

/// Readiness of a descriptor the caller owns (and closes only after this is destroyed).
class Poll {
 public:
  /// callback(events, status): events of UV_READABLE | UV_WRITABLE | UV_DISCONNECT; status < 0 on error.
  Poll(uv_loop_t& loop, int fd, std::function<void(int events, int status)> callback);
  /// Idempotent and cheap when nothing changes. 0 stops.
  void want(int events);

 private:
  using Box = UvBox<uv_poll_t, int, int>;
  std::unique_ptr<Box, UvDeleter<Box>> box_;
  int wanted_ = 0;
};

/// Runs a callable once, from the loop, soon; for work that must not happen inside another callback.
class Deferred {
 public:
  Deferred(uv_loop_t& loop, std::function<void()> callback);
  void trigger();

 private:
  using Box = UvBox<uv_idle_t>;
  std::unique_ptr<Box, UvDeleter<Box>> box_;
};

}  // namespace smbdirect::workers
