// SPDX-License-Identifier: MIT
// The beginning of a native channel at the worker's end: sends the facts and the data area, and waits for the
// process that attaches itself, whose process id comes from the kernel (SCM_CREDENTIALS). Owned by one
// attempt of the peer finder; one thread. Destroying it closes the channel.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <utility>

#include <uv.h>

#include "protocol/proxy/frames.h"
#include "shm/base/result.h"
#include "shm/base/unique_fd.h"
#include "shm/loop/watched.h"

namespace smbdirect::workers {

class Introduction {
 public:
  struct Attached {
    shm::UniqueFd socket;
    uint32_t process{};
  };
  /// Called once, from the loop; it may destroy the introduction.
  using Done = std::function<void(shm::Result<Attached>)>;

  /// introduction: a FACTS frame, said at once. area is borrowed for the call.
  [[nodiscard]] static shm::Result<std::unique_ptr<Introduction>> make(
      uv_loop_t& loop, shm::UniqueFd socket, std::span<const std::byte> introduction, int area, Done done);

 private:
  static constexpr size_t kAttachedBytes = protocol::proxy::kFrameHeaderBytes + sizeof(uint32_t);

  Introduction(uv_loop_t& loop, shm::UniqueFd socket, Done done);
  void read(int status);
  void finish(shm::Result<Attached> result);

  shm::Watched<shm::UniqueFd> socket_;
  Done done_;
  std::array<std::byte, kAttachedBytes> said_{};
  size_t have_ = 0;
};

/// Two ends of a channel.
[[nodiscard]] shm::Result<std::pair<shm::UniqueFd, shm::UniqueFd>> socket_pair();

}  // namespace smbdirect::workers
