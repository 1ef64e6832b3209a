// SPDX-License-Identifier: MIT
// A worker's socket at which started processes open their channels: receives their HELLO and finds the
// attempt that the cookie belongs to. Owned by the peer finder; one thread. The supervisor has made and
// bound the socket, and the mode of its file says which users may connect. Connections that send something
// else, or nothing for a while, are closed; when there are many silent ones, the oldest is closed.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>

#include <uv.h>

#include "protocol/proxy/frames.h"
#include "shm/base/unique_fd.h"
#include "shm/loop/loop.h"
#include "shm/loop/watched.h"

namespace smbdirect::workers {

class PeerListener {
 public:
  static constexpr size_t kMaxPending = 64;
  static constexpr uint64_t kPendingMs = 5'000;
  static constexpr uint64_t kRestMs = 250;

  /// True: the socket was taken. Otherwise it is closed here.
  using Opened = std::function<bool(const protocol::proxy::Cookie& cookie, shm::UniqueFd& socket)>;
  PeerListener(uv_loop_t& loop, shm::UniqueFd listening, Opened opened);

 private:
  static constexpr size_t kHelloBytes =
      protocol::proxy::kFrameHeaderBytes + sizeof(uint32_t) + protocol::proxy::kCookieBytes;
  struct Pending {
    shm::Watched<shm::UniqueFd> socket;
    std::array<std::byte, kHelloBytes> said{};
    size_t have = 0;
    std::unique_ptr<shm::Timer> deadline;
  };

  void accept(int status);
  void read(uint64_t number, int status);
  void rest();

  uv_loop_t& loop_;
  shm::Watched<shm::UniqueFd> listening_;
  Opened opened_;
  std::map<uint64_t, Pending> pending_;
  uint64_t next_ = 1;
  shm::Timer rest_;  // until accept is tried again, after descriptors ran out
};

}  // namespace smbdirect::workers
