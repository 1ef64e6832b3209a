// SPDX-License-Identifier: MIT
// Calls back when a descriptor becomes writable: for a connect(2) under way, when it has come to its end. The
// descriptor stays the caller's, who must keep it open as long as this lives. Supervisor process, its loop's
// thread; may be destroyed in its own callback.
#pragma once

#include <functional>

#include "shm/loop/loop.h"

namespace smbdirect::daemon {

class WriteWatch {
 public:
  /// Watches from now on.
  [[nodiscard]] static shm::Result<WriteWatch> make(Loop& loop, int fd, std::function<void()> callback);

 private:
  explicit WriteWatch(detail::BlockPtr<uv_poll_t> block) : block_(std::move(block)) {}
  detail::BlockPtr<uv_poll_t> block_;
};

}  // namespace smbdirect::daemon
