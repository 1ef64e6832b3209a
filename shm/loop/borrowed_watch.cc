// SPDX-License-Identifier: MIT
#include "shm/loop/borrowed_watch.h"

#include <memory>
#include <string>
#include <utility>

namespace smbdirect::shm {
namespace {

using Box = UvBox<uv_poll_t>;

Result<UvOwner<Box>> make_poll(Loop& loop, int fd, std::function<void()> callback) {
  auto box = std::make_unique<Box>(std::move(callback));
  if (const int result = uv_poll_init(loop.get(), &box->handle, fd); result < 0) {
    return fail("watch descriptor " + std::to_string(fd), -result);
  }
  return UvOwner<Box>(box.release());
}

int start_poll(Box& box, int events) {
  return uv_poll_start(&box.handle, events | UV_DISCONNECT,
                       [](uv_poll_t* handle, int, int) { Box::run(handle); });
}

}  // namespace

Result<ReadWatch> ReadWatch::make(Loop& loop, int fd, std::function<void()> callback) {
  auto box = make_poll(loop, fd, std::move(callback));
  if (!box) return std::unexpected(box.error());
  return ReadWatch(std::move(*box));
}

void ReadWatch::start() { (void)start_poll(*box_, UV_READABLE); }

void ReadWatch::stop() { uv_poll_stop(&box_->handle); }

Result<WriteWatch> WriteWatch::make(Loop& loop, int fd, std::function<void()> callback) {
  auto box = make_poll(loop, fd, std::move(callback));
  if (!box) return std::unexpected(box.error());
  if (const int result = start_poll(**box, UV_WRITABLE); result < 0) {
    return fail("watch descriptor " + std::to_string(fd), -result);
  }
  return WriteWatch(std::move(*box));
}

}  // namespace smbdirect::shm
