// SPDX-License-Identifier: MIT
// libuv handles with one owner: the workers' one seam to the loop. A handle outlives its wrapper until libuv
// has closed it, so the wrapper owns heap memory that the close callback frees. Callbacks never throw into
// libuv. One loop, one thread.
//
// Two rules hold whatever the callers do. The loop polls between any two runs of one callback: nothing that
// comes again at once can keep it from its descriptors. And a descriptor is watched only by what owns it, and
// closed only after its handle: libuv takes a descriptor out of epoll by its number, which by then may be
// another's.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <utility>

#include <uv.h>

#include "shm/base/unique_fd.h"

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

/// Runs a callable once, from the loop, soon; for work that must not happen inside another callback. The
/// callback may trigger it again, or destroy it.
class Deferred {
 public:
  Deferred(uv_loop_t& loop, std::function<void()> callback);
  void trigger();
  void cancel();

 private:
  using Box = UvBox<uv_idle_t>;
  std::unique_ptr<Box, UvDeleter<Box>> box_;
};

/// One-shot timer. The callback may start or destroy the timer.
class Timer {
 public:
  Timer(uv_loop_t& loop, std::function<void()> callback);
  /// Never at once: 0 is the next millisecond.
  void start(uint64_t after_ms);
  void stop();

 private:
  using Box = UvBox<uv_timer_t>;
  // libuv before 1.45 runs a timer that is due again in the same round of timers, for ever if need be, and
  // polls only then. Here it runs once in a round; what is due again runs after it.
  struct State {
    std::function<void()> callback;
    bool ran = false;
    bool due = false;
  };
  std::shared_ptr<State> state_;  // shared with the callbacks, for this object may be gone
  std::unique_ptr<Deferred> after_round_;
  std::unique_ptr<Box, UvDeleter<Box>> box_;
};

namespace detail {

/// The watch of a descriptor. Watched is its only user.
class Poll {
 public:
  using Ready = std::function<void(int events, int status)>;

  Poll() = default;
  Poll(uv_loop_t& loop, int fd, Ready ready);
  void want(int events);
  [[nodiscard]] bool active() const { return box_ != nullptr || refused_ != nullptr; }
  [[nodiscard]] int error() const { return error_; }

 private:
  using Box = UvBox<uv_poll_t, int, int>;
  std::shared_ptr<int> wanted_;  // shared with the callback, for this object may move or be gone
  std::unique_ptr<Box, UvDeleter<Box>> box_;
  std::unique_ptr<Deferred> refused_;  // in its place where libuv did not take the descriptor
  int error_ = 0;
};

}  // namespace detail

[[nodiscard]] inline int descriptor_of(const shm::UniqueFd& fd) { return fd.get(); }

/// What owns a descriptor (a UniqueFd, an object of a library) under the loop's watch: the watch ends before
/// the descriptor is closed, or leaves. descriptor_of(const Owner&) says which it is.
template <class Owner>
class Watched {
 public:
  /// Nothing.
  Watched() = default;
  /// ready(events, status): events of UV_READABLE | UV_WRITABLE | UV_DISCONNECT. status < 0: an error, and
  /// the watch is off; comes from the loop too when the descriptor cannot be watched at all. It may reset
  /// this.
  Watched(uv_loop_t& loop, Owner owner, detail::Poll::Ready ready)
      : owner_(std::move(owner)), poll_(loop, descriptor_of(owner_), std::move(ready)) {}
  Watched(Watched&&) noexcept = default;
  Watched& operator=(Watched&& other) noexcept {
    if (this != &other) {
      poll_ = std::move(other.poll_);  // first: the old one ends
      owner_ = std::move(other.owner_);
    }
    return *this;
  }
  ~Watched() = default;

  /// Idempotent and cheap when nothing changes. 0: none.
  void want(int events) { poll_.want(events); }
  [[nodiscard]] bool valid() const { return poll_.active(); }
  /// Why it cannot be watched, as libuv has it; 0: it can.
  [[nodiscard]] int error() const { return poll_.error(); }
  [[nodiscard]] int fd() const { return descriptor_of(owner_); }
  [[nodiscard]] const Owner& owner() const { return owner_; }
  [[nodiscard]] Owner& owner() { return owner_; }

  /// Ends the watch.
  [[nodiscard]] Owner release() {
    poll_ = {};
    return std::exchange(owner_, Owner{});
  }
  /// Ends the watch and closes.
  void reset() { *this = Watched{}; }

 private:
  Owner owner_;
  detail::Poll poll_;  // after owner_: gone before it
};

}  // namespace smbdirect::workers
