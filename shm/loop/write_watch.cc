// SPDX-License-Identifier: MIT
#include "shm/loop/write_watch.h"

#include <string>
#include <utility>

namespace smbdirect::daemon {

shm::Result<WriteWatch> WriteWatch::make(Loop& loop, int fd, std::function<void()> callback) {
  using Block = detail::Block<uv_poll_t>;
  auto block = std::make_unique<Block>();
  block->callback = std::move(callback);
  block->handle.data = block.get();
  if (const int result = uv_poll_init(loop.get(), &block->handle, fd); result < 0) {
    return shm::fail("watch descriptor " + std::to_string(fd), -result);
  }
  WriteWatch watch{detail::BlockPtr<uv_poll_t>(block.release())};
  // An error (status < 0) is met again, with its reason, by whoever asks the socket.
  const int started = uv_poll_start(
      &watch.block_->handle, UV_WRITABLE | UV_DISCONNECT,
      [](uv_poll_t* handle, int, int) noexcept { static_cast<Block*>(handle->data)->callback(); });
  if (started < 0) return shm::fail("watch descriptor " + std::to_string(fd), -started);
  return watch;
}

}  // namespace smbdirect::daemon
