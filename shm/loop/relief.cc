// SPDX-License-Identifier: MIT
#include "shm/loop/relief.h"

#include <algorithm>
#include <memory>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>

namespace smbdirect::shm {
namespace {

constexpr int kRestAfter = 50;            // ticks without a task
constexpr uint64_t kLongestNs = 500'000;  // of tasks between two turns, unless one alone takes longer

}  // namespace

LoopRelief::LoopRelief(uv_loop_t& loop, std::chrono::milliseconds tick) : loop_(loop), tick_(tick) {
  using Box = UvBox<uv_async_t>;
  auto box = std::make_unique<Box>();
  if (const int made = uv_async_init(&loop, &box->handle, Box::run); made < 0)
    throw std::runtime_error(std::string("uv_async_init: ") + uv_strerror(made));
  uv_unref(reinterpret_cast<uv_handle_t*>(&box->handle));
  wake_.reset(box.release());
}

LoopRelief::~LoopRelief() {
  {
    const std::lock_guard lock(mutex_);
    over_ = true;
  }
  changed_.notify_all();
  if (second_.joinable()) second_.join();
}

Result<> LoopRelief::start() {
  try {
    second_ = std::thread([this] { serve(false); });
  } catch (const std::system_error& error) {
    return fail("a second thread for the loop", error.code().value());
  }
  return {};
}

void LoopRelief::run() {
  {
    const std::lock_guard lock(mutex_);
    held_ = true;
  }
  serve(true);
  if (second_.joinable()) second_.join();
}

void LoopRelief::stop() {
  stopped_ = true;
  if (turning_) uv_stop(&loop_);  // else it would end the next run of the loop, whosever that is
}

bool LoopRelief::room() {
  if (!second_.joinable()) return false;
  const std::lock_guard lock(mutex_);
  return running_ == nullptr;
}

void LoopRelief::aside(Task& task) {
  const std::lock_guard lock(mutex_);
  pending_.push_back(&task);
}

bool LoopRelief::cancel(Task& task) {
  const std::lock_guard lock(mutex_);
  return std::erase(pending_, &task) > 0 || std::erase(elsewhere_, &task) > 0;
}

void LoopRelief::serve(bool holds) {
  Lock lock(mutex_);
  while (!over_) {
    if (!holds && !take_over(lock)) return;
    if (!turn(lock)) {
      over_ = true;
      held_ = false;
      changed_.notify_all();
      return;
    }
    holds = do_aside(lock);
  }
}

/// False: the loop runs no more.
bool LoopRelief::turn(Lock& lock) {
  tell(lock, elsewhere_, End::not_begun);
  if (!late_.empty()) uv_unref(reinterpret_cast<uv_handle_t*>(&wake_->handle));
  tell(lock, late_, End::held_up);
  if (stopped_) return false;
  const uv_run_mode mode = pending_.empty() ? UV_RUN_ONCE : UV_RUN_NOWAIT;
  lock.unlock();
  turning_ = true;
  const bool alive = uv_run(&loop_, mode) != 0;
  turning_ = false;
  lock.lock();
  return (alive || !pending_.empty()) && !stopped_;
}

void LoopRelief::tell(Lock& lock, std::vector<Task*>& whom, End end) {
  while (!whom.empty()) {
    Task* task = whom.front();
    whom.erase(whom.begin());
    lock.unlock();
    task->over(end);
    lock.lock();
  }
}

/// Waits until the other one is held up. False: there is nothing to take over any more.
bool LoopRelief::take_over(Lock& lock) {
  int quiet = 0;
  uint64_t seen = begun_;
  while (!over_) {
    if (quiet >= kRestAfter) {
      resting_ = true;
      changed_.wait(lock, [this] { return over_ || !resting_; });
      quiet = 0;
    } else {
      changed_.wait_for(lock, tick_, [this] { return over_; });
    }
    const bool same = std::exchange(seen, begun_) == begun_;
    quiet = same ? quiet + 1 : 0;
    if (over_ || !same || held_ || running_ == nullptr) continue;
    held_ = true;
    elsewhere_ = std::exchange(pending_, {});
    uv_ref(reinterpret_cast<uv_handle_t*>(&wake_->handle));  // until that one is over
    return true;
  }
  return false;
}

/// The tasks of this turn. False: one was held up, and the loop is the other thread's.
bool LoopRelief::do_aside(Lock& lock) {
  if (pending_.empty()) return true;
  const uint64_t until = uv_hrtime() + kLongestNs;
  do {
    Task* task = pending_.front();
    pending_.erase(pending_.begin());
    running_ = task;
    ++begun_;
    held_ = false;
    if (std::exchange(resting_, false)) changed_.notify_all();
    lock.unlock();
    task->run();
    lock.lock();
    running_ = nullptr;
    if (held_ || over_) {
      late_.push_back(task);
      uv_async_send(&wake_->handle);
      return false;
    }
    held_ = true;
    lock.unlock();
    uv_update_time(&loop_);
    task->over(End::ran);
    lock.lock();
  } while (!pending_.empty() && !stopped_ && uv_hrtime() < until);
  return true;
}

}  // namespace smbdirect::shm
