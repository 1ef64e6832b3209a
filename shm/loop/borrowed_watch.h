// SPDX-License-Identifier: MIT
// A watch of a descriptor that another object owns and keeps open as long as the watch lives: declare the
// watch after the descriptor. Where the watch can own the descriptor, use watched.h. The supervisor's loop's
// thread; may be destroyed in its own callback.
#pragma once

#include <functional>

#include "shm/base/result.h"
#include "shm/loop/loop.h"

namespace smbdirect::shm {

/// Calls back while a descriptor is readable or its other side is gone. The next read returns an error with
/// its reason.
class ReadWatch {
 public:
  [[nodiscard]] static Result<ReadWatch> make(Loop& loop, int fd, std::function<void()> callback);
  void start();
  void stop();

 private:
  explicit ReadWatch(UvOwner<UvBox<uv_poll_t>> box) : box_(std::move(box)) {}
  UvOwner<UvBox<uv_poll_t>> box_;
};

/// Calls back when a descriptor becomes writable: for a connect(2) under way, when it has come to its end.
/// Watches from the start.
class WriteWatch {
 public:
  [[nodiscard]] static Result<WriteWatch> make(Loop& loop, int fd, std::function<void()> callback);

 private:
  explicit WriteWatch(UvOwner<UvBox<uv_poll_t>> box) : box_(std::move(box)) {}
  UvOwner<UvBox<uv_poll_t>> box_;
};

}  // namespace smbdirect::shm
