// SPDX-License-Identifier: MIT
// The TCP socket SMB clients connect to. Owned by the program, on its loop's thread.
#pragma once

#include <functional>
#include <memory>
#include <sys/socket.h>

#include <uv.h>

#include "shm/base/result.h"
#include "shm/base/unique_fd.h"
#include "shm/loop/loop.h"
#include "shm/loop/watched.h"

namespace smbdirect::workers::connect {

class Listener {
 public:
  /// A connected, non-blocking client and its address.
  using Accepted = std::function<void(shm::UniqueFd client, const sockaddr_storage& peer)>;

  /// Listens at once; an error names the address and what to do.
  [[nodiscard]] static shm::Result<std::unique_ptr<Listener>> open(uv_loop_t& loop,
                                                                   const sockaddr_storage& address,
                                                                   Accepted accepted);
  Listener(uv_loop_t& loop, shm::UniqueFd fd, Accepted accepted);

  /// The address it listens on, with the port the system chose.
  [[nodiscard]] sockaddr_storage address() const;

 private:
  void on_ready(int status);
  void pause(int error);

  shm::Watched<shm::UniqueFd> socket_;
  Accepted accepted_;
  shm::Timer pause_;
};

}  // namespace smbdirect::workers::connect
