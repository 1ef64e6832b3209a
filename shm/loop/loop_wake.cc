// SPDX-License-Identifier: MIT
#include "shm/loop/loop_wake.h"

#include <memory>
#include <stdexcept>
#include <string>
#include <utility>

namespace smbdirect::shm {

LoopWake::LoopWake(Loop& loop, std::function<void()> callback) {
  using Box = UvBox<uv_async_t>;
  auto box = std::make_unique<Box>(std::move(callback));
  const int result = uv_async_init(loop.get(), &box->handle, Box::run);
  // Fails only when descriptors run out, at start.
  if (result < 0) throw std::runtime_error(std::string("uv_async_init: ") + uv_strerror(result));
  box_.reset(box.release());
}

}  // namespace smbdirect::shm
