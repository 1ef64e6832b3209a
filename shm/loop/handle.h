// SPDX-License-Identifier: MIT
// The memory of a libuv handle, and the callable it runs: what every class of this folder is made of. A
// handle outlives its owner until libuv has closed it, so it lives on the heap and the close callback frees
// it; an owner may be destroyed at any time, in its own callback too. Callbacks never throw into libuv. One
// loop, one thread; any process.
#pragma once

#include <functional>
#include <memory>

#include <uv.h>

namespace smbdirect::shm {

template <class Handle, class... Args>
struct UvBox {
  Handle handle{};
  std::function<void(Args...)> callback;
  bool closed = false;

  explicit UvBox(std::function<void(Args...)> run = {}) : callback(std::move(run)) { handle.data = this; }
  static UvBox& of(Handle* handle) { return *static_cast<UvBox*>(handle->data); }
  /// Runs the callback, unless the owner has let go of the handle.
  static void run(Handle* handle, Args... args) noexcept {
    UvBox& box = of(handle);
    if (!box.closed && box.callback) box.callback(args...);
  }
  /// Gives the box to libuv, which frees it once the handle is closed. The callback is not called again;
  /// it is destroyed only then, for it may be running now.
  static void dispose(UvBox* box) {
    box->closed = true;
    uv_close(reinterpret_cast<uv_handle_t*>(&box->handle), [](uv_handle_t* handle) {
      const std::unique_ptr<UvBox> dies(static_cast<UvBox*>(handle->data));
    });
  }
};

template <class Box>
struct UvDeleter {
  void operator()(Box* box) const { Box::dispose(box); }
};

/// Of a handle that libuv has initialised.
template <class Box>
using UvOwner = std::unique_ptr<Box, UvDeleter<Box>>;

}  // namespace smbdirect::shm
