// SPDX-License-Identifier: MIT
#include "shm/loop/loop.h"

#include <algorithm>
#include <stdexcept>
#include <string>
#include <utility>

namespace smbdirect::shm {
namespace {

void must(int result, const char* call) {
  if (result < 0) throw std::runtime_error(std::string(call) + ": " + uv_strerror(result));
}

}  // namespace

Loop::Loop() { must(uv_loop_init(&loop_), "uv_loop_init"); }

Loop::~Loop() {
  // Only handles whose owners are gone are left: closing, each with one callback to come.
  while (uv_loop_close(&loop_) == UV_EBUSY) uv_run(&loop_, UV_RUN_DEFAULT);
}

Deferred::Deferred(uv_loop_t& loop, std::function<void()> callback) {
  auto box = std::make_unique<UvBox<uv_idle_t>>(std::move(callback));
  must(uv_idle_init(&loop, &box->handle), "uv_idle_init");
  box_.reset(box.release());
}

void Deferred::trigger() {
  uv_idle_start(&box_->handle, [](uv_idle_t* handle) {
    uv_idle_stop(handle);
    UvBox<uv_idle_t>::run(handle);
  });
}

void Deferred::cancel() { uv_idle_stop(&box_->handle); }

Timer::Timer(uv_loop_t& loop, std::function<void()> callback)
    : state_(std::make_shared<State>(State{std::move(callback)})),
      after_round_(std::make_unique<Deferred>(loop, [state = state_] {
        state->ran = false;
        if (std::exchange(state->due, false)) state->callback();
      })) {
  auto box = std::make_unique<UvBox<uv_timer_t>>([state = state_, after = after_round_.get()] {
    if (state->ran) {
      state->due = true;
      return;
    }
    state->ran = true;
    after->trigger();
    state->callback();
  });
  must(uv_timer_init(&loop, &box->handle), "uv_timer_init");
  box_.reset(box.release());
}

Timer::Timer(Loop& loop, std::function<void()> callback) : Timer(*loop.get(), std::move(callback)) {
  true_time_ = true;
}

void Timer::start(uint64_t after_ms, uint64_t repeat_ms) {
  if (true_time_) uv_update_time(box_->handle.loop);
  state_->due = false;
  uv_timer_start(&box_->handle, UvBox<uv_timer_t>::run, std::max<uint64_t>(after_ms, 1), repeat_ms);
}

void Timer::stop() {
  state_->due = false;
  uv_timer_stop(&box_->handle);
}

SignalWatch::SignalWatch(uv_loop_t& loop, int signal, std::function<void()> callback) {
  auto box = std::make_unique<UvBox<uv_signal_t>>(std::move(callback));
  must(uv_signal_init(&loop, &box->handle), "uv_signal_init");
  box_.reset(box.release());
  must(uv_signal_start(
           &box_->handle, [](uv_signal_t* handle, int) { UvBox<uv_signal_t>::run(handle); }, signal),
       "uv_signal_start");
}

}  // namespace smbdirect::shm
