// SPDX-License-Identifier: MIT
#include "shm/loop/watched.h"

namespace smbdirect::shm {

namespace detail {

Poll::Poll(uv_loop_t& loop, int fd, Ready ready) : wanted_(std::make_shared<int>(0)) {
  Ready run = [wanted = wanted_, ready = std::move(ready)](int events, int status) {
    if (status < 0) *wanted = 0;  // libuv has stopped the handle
    ready(events, status);
  };
  auto box = std::make_unique<Box>(run);
  error_ = uv_poll_init(&loop, &box->handle, fd);
  if (error_ < 0) {
    refused_ = std::make_unique<Deferred>(loop, [run = std::move(run), error = error_] { run(0, error); });
    return;
  }
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

}  // namespace smbdirect::shm
