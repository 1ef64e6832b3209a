// SPDX-License-Identifier: MIT
#include "shm/loop/uv_handles.h"

#include <algorithm>

namespace smbdirect::workers {

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

void Deferred::cancel() { uv_idle_stop(&box_->handle); }

Timer::Timer(uv_loop_t& loop, std::function<void()> callback)
    : state_(std::make_shared<State>(State{std::move(callback)})),
      after_round_(std::make_unique<Deferred>(loop,
                                              [state = state_] {
                                                state->ran = false;
                                                if (std::exchange(state->due, false)) state->callback();
                                              })),
      box_(new Box{{},
                   [state = state_, after = after_round_.get()] {
                     if (state->ran) {
                       state->due = true;
                       return;
                     }
                     state->ran = true;
                     after->trigger();
                     state->callback();
                   },
                   false}) {
  uv_timer_init(&loop, &box_->handle);
  box_->handle.data = box_.get();
}

void Timer::start(uint64_t after_ms) {
  state_->due = false;
  uv_timer_start(
      &box_->handle, [](uv_timer_t* handle) { Box::run(handle); }, std::max<uint64_t>(after_ms, 1), 0);
}

void Timer::stop() {
  state_->due = false;
  uv_timer_stop(&box_->handle);
}

namespace detail {

Poll::Poll(uv_loop_t& loop, int fd, Ready ready) : wanted_(std::make_shared<int>(0)) {
  Ready run = [wanted = wanted_, ready = std::move(ready)](int events, int status) {
    if (status < 0) *wanted = 0;  // libuv has stopped the handle
    ready(events, status);
  };
  auto box = std::make_unique<Box>();
  error_ = uv_poll_init(&loop, &box->handle, fd);
  if (error_ < 0) {
    refused_ = std::make_unique<Deferred>(loop, [run = std::move(run), error = error_] { run(0, error); });
    return;
  }
  box->callback = std::move(run);
  box->handle.data = box.get();
  box_.reset(box.release());
}

void Poll::want(int events) {
  if (!active() || events == *wanted_) return;
  *wanted_ = events;
  if (refused_) {
    events != 0 ? refused_->trigger() : refused_->cancel();
  } else if (events == 0) {
    uv_poll_stop(&box_->handle);
  } else {
    uv_poll_start(&box_->handle, events,
                  [](uv_poll_t* handle, int status, int ready) { Box::run(handle, ready, status); });
  }
}

}  // namespace detail

}  // namespace smbdirect::workers
