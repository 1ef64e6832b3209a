// SPDX-License-Identifier: MIT
#include "workers/uv_handles.h"

namespace smbdirect::workers {

Timer::Timer(uv_loop_t& loop, std::function<void()> callback)
    : box_(new Box{{}, std::move(callback), false}) {
  uv_timer_init(&loop, &box_->handle);
  box_->handle.data = box_.get();
}

void Timer::start(uint64_t after_ms) {
  uv_timer_start(&box_->handle, [](uv_timer_t* handle) { Box::run(handle); }, after_ms, 0);
}

void Timer::stop() { uv_timer_stop(&box_->handle); }

Poll::Poll(uv_loop_t& loop, int fd, std::function<void(int, int)> callback)
    : box_(new Box{{}, std::move(callback), false}) {
  uv_poll_init(&loop, &box_->handle, fd);
  box_->handle.data = box_.get();
}

void Poll::want(int events) {
  if (events == wanted_) return;
  wanted_ = events;
  if (events == 0) {
    uv_poll_stop(&box_->handle);
    return;
  }
  uv_poll_start(&box_->handle, events,
                [](uv_poll_t* handle, int status, int ready) { Box::run(handle, ready, status); });
}

Deferred::Deferred(uv_loop_t& loop, std::function<void()> callback)
    : box_(new Box{{}, std::move(callback), false}) {
  uv_idle_init(&loop, &box_->handle);
  box_->handle.data = box_.get();
}

void Deferred::trigger() {
  uv_idle_start(&box_->handle, [](uv_idle_t* handle) {
    uv_idle_stop(handle);
    Box::run(handle);
  });
}

}  // namespace smbdirect::workers
