// SPDX-License-Identifier: MIT
// What a native exchange needs to know of the peers of its worker: how to reach the process that serves its
// client, and how other channels of that client are passed to it. Implemented by PeerFinder (peer_finder.h),
// and by tests. Owned by the worker, outlives its sessions; one thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "shm/base/connection_id.h"
#include "shm/base/unique_fd.h"
#include "workers/upstream/upstream.h"

namespace smbdirect::workers {

struct PeerRequest {
  UpstreamRequest client;
  std::vector<std::byte> introduction;  // a FACTS frame: the first that the process gets
  shm::UniqueFd area;                   // and the data area that goes with it
};

class Peers {
 public:
  /// Takes the socket of another channel; false: it cannot take it now.
  using Pass = std::function<bool(shm::UniqueFd& socket)>;

  [[nodiscard]] virtual std::unique_ptr<Upstream> request(PeerRequest request) = 0;
  /// The connection is served by this process, which takes further channels with `pass`.
  virtual void serving(shm::ConnectionId connection, uint32_t process, Pass pass) = 0;
  virtual void ended(shm::ConnectionId connection) = 0;

 protected:
  ~Peers() = default;
};

}  // namespace smbdirect::workers
