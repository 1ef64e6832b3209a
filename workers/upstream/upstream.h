// SPDX-License-Identifier: MIT
// The way to the server (smbd, or a native peer) for one session: one attempt, whose outcome is a connected
// stream or the reason why there is none. Owned by the session; destroying it gives the attempt up. One
// thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <sys/socket.h>

#include "shm/base/connection_id.h"
#include "shm/base/guid.h"
#include "shm/base/result.h"
#include "shm/base/unique_fd.h"

namespace smbdirect::workers {

/// The client that the stream is for.
struct UpstreamRequest {
  shm::ConnectionId connection{};  // the number of the client's connection
  shm::Guid client_guid{};
  bool claimed{};  // the GUID identifies the client (the dialect has one): the supervisor knows
  sockaddr_storage client{};
  sockaddr_storage server{};             // the address the client has connected to
  std::span<const std::byte> negotiate;  // the client's first message; while the request is made only
};

class Upstream {
 public:
  using Done = std::function<void(shm::Result<shm::UniqueFd>)>;

  Upstream() = default;
  Upstream(const Upstream&) = delete;
  Upstream& operator=(const Upstream&) = delete;
  virtual ~Upstream() = default;
  /// done is called once, from the loop, never from inside start(), unless this is destroyed first. It may
  /// destroy this.
  virtual void start(Done done) = 0;
  /// The process at the other end, once there is one and where that is known: else 0.
  [[nodiscard]] virtual uint32_t process() const { return 0; }
};

using OpenUpstream = std::function<std::unique_ptr<Upstream>(UpstreamRequest request)>;

}  // namespace smbdirect::workers
