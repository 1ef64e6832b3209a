// SPDX-License-Identifier: MIT
// Wakes a loop from another thread (uv_async). Made and destroyed by the loop's thread; the one that calls
// wake() must have ended before this is destroyed.
#pragma once

#include <functional>

#include "shm/loop/loop.h"

namespace smbdirect::shm {

class LoopWake {
 public:
  LoopWake(Loop& loop, std::function<void()> callback);
  /// Any thread. The callback runs once or more after it, in the loop.
  void wake() { uv_async_send(&box_->handle); }

 private:
  UvOwner<UvBox<uv_async_t>> box_;
};

}  // namespace smbdirect::shm
