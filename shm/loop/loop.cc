// SPDX-License-Identifier: MIT
#include "shm/loop/loop.h"

#include <algorithm>
#include <stdexcept>
#include <string>
#include <utility>

namespace smbdirect::daemon {
namespace {

/// libuv's own set-up fails only for want of descriptors or memory, at start.
void must(int result, const char* call) {
  if (result < 0) throw std::runtime_error(std::string(call) + ": " + uv_strerror(result));
}

template <class Handle>
void call_back(Handle* handle) noexcept {
  static_cast<detail::Block<Handle>*>(handle->data)->callback();
}

template <class Handle>
std::unique_ptr<detail::Block<Handle>> make_block(std::function<void()> callback) {
  auto block = std::make_unique<detail::Block<Handle>>();
  block->callback = std::move(callback);
  block->handle.data = block.get();
  return block;
}

}  // namespace

Loop::Loop() { must(uv_loop_init(&loop_), "uv_loop_init"); }

Loop::~Loop() {
  // Only handles whose owners are gone are left: closing, each with one callback to come.
  while (uv_loop_close(&loop_) == UV_EBUSY) uv_run(&loop_, UV_RUN_DEFAULT);
}

Timer::Timer(Loop& loop, std::function<void()> callback) {
  state_ = std::make_shared<State>(State{std::move(callback)});
  auto after = make_block<uv_idle_t>([state = state_] {
    state->ran = false;
    if (std::exchange(state->due, false)) state->callback();
  });
  must(uv_idle_init(loop.get(), &after->handle), "uv_idle_init");
  after_round_.reset(after.release());
  auto block = make_block<uv_timer_t>([state = state_, idle = &after_round_->handle] {
    if (state->ran) {
      state->due = true;
      return;
    }
    state->ran = true;
    uv_idle_start(idle, [](uv_idle_t* handle) noexcept {
      uv_idle_stop(handle);
      call_back(handle);
    });
    state->callback();
  });
  must(uv_timer_init(loop.get(), &block->handle), "uv_timer_init");
  block_.reset(block.release());
}
void Timer::start(uint64_t delay_ms, uint64_t repeat_ms) {
  uv_update_time(block_->handle.loop);  // timers count from libuv's cached time
  state_->due = false;
  uv_timer_start(&block_->handle, call_back<uv_timer_t>, std::max<uint64_t>(delay_ms, 1), repeat_ms);
}
void Timer::stop() {
  state_->due = false;
  uv_timer_stop(&block_->handle);
}

shm::Result<ReadWatch> ReadWatch::make(Loop& loop, int fd, std::function<void()> callback) {
  auto block = make_block<uv_poll_t>(std::move(callback));
  if (const int result = uv_poll_init(loop.get(), &block->handle, fd); result < 0) {
    return shm::fail("watch descriptor " + std::to_string(fd), -result);
  }
  return ReadWatch(detail::BlockPtr<uv_poll_t>(block.release()));
}
void ReadWatch::start() {
  // An error (status < 0) is met again, with its reason, by whoever reads.
  uv_poll_start(&block_->handle, UV_READABLE | UV_DISCONNECT,
                [](uv_poll_t* handle, int, int) noexcept { call_back(handle); });
}
void ReadWatch::stop() { uv_poll_stop(&block_->handle); }

SignalWatch::SignalWatch(Loop& loop, int signal, std::function<void()> callback) {
  auto block = make_block<uv_signal_t>(std::move(callback));
  must(uv_signal_init(loop.get(), &block->handle), "uv_signal_init");
  block_.reset(block.release());
  must(uv_signal_start(
           &block_->handle, [](uv_signal_t* handle, int) noexcept { call_back(handle); }, signal),
       "uv_signal_start");
}

}  // namespace smbdirect::daemon
