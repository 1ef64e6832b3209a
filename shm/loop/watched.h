// SPDX-License-Identifier: MIT
// A descriptor that the loop watches, together with its owner: it is closed only after its libuv handle,
// because libuv removes a descriptor from epoll by its number, which another descriptor may have by then. One
// loop, one thread; any process.
#pragma once

#include <functional>
#include <memory>
#include <utility>

#include <uv.h>

#include "shm/base/unique_fd.h"
#include "shm/loop/loop.h"

namespace smbdirect::shm {

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
  UvOwner<Box> box_;
  std::unique_ptr<Deferred> refused_;  // in its place where libuv did not take the descriptor
  int error_ = 0;
};

}  // namespace detail

[[nodiscard]] inline int descriptor_of(const UniqueFd& fd) { return fd.get(); }

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

}  // namespace smbdirect::shm
