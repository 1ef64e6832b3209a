// SPDX-License-Identifier: MIT
#include "shm/loop/loop_wake.h"

#include <stdexcept>
#include <string>
#include <utility>

namespace smbdirect::daemon {

LoopWake::LoopWake(Loop& loop, std::function<void()> callback) {
  using Block = detail::Block<uv_async_t>;
  auto block = std::make_unique<Block>();
  block->callback = std::move(callback);
  block->handle.data = block.get();
  const int result = uv_async_init(loop.get(), &block->handle, [](uv_async_t* handle) noexcept {
    static_cast<Block*>(handle->data)->callback();
  });
  // Fails only for want of descriptors, at start.
  if (result < 0) throw std::runtime_error(std::string("uv_async_init: ") + uv_strerror(result));
  block_.reset(block.release());
}

}  // namespace smbdirect::daemon
