// SPDX-License-Identifier: MIT
// A close that takes until it is let go of, and who has made it. Owned by the test; the loop's thread is the
// one that has made this.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <mutex>
#include <thread>

namespace smbdirect::workers::session_test {

class SlowDisk {
 public:
  /// What takes so long.
  void close() {
    std::unique_lock lock(mutex_);
    if (std::this_thread::get_id() == loop_) {
      ++by_loop_;  // it would never come back
      return;
    }
    ++begun_;
    changed_.notify_all();
    changed_.wait(lock, [this] { return !slow_; });
  }
  void let_go() {
    const std::lock_guard lock(mutex_);
    slow_ = false;
    changed_.notify_all();
  }
  /// Until the thread has come to so many.
  void until_begun(size_t count) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return begun_ >= count; });
  }
  [[nodiscard]] size_t begun() {
    const std::lock_guard lock(mutex_);
    return begun_;
  }
  [[nodiscard]] size_t by_loop() {
    const std::lock_guard lock(mutex_);
    return by_loop_;
  }

 private:
  const std::thread::id loop_ = std::this_thread::get_id();
  std::mutex mutex_;
  std::condition_variable changed_;
  bool slow_ = true;
  size_t begun_ = 0, by_loop_ = 0;
};

}  // namespace smbdirect::workers::session_test
