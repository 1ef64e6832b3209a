// SPDX-License-Identifier: MIT
// The listeners that a supervisor takes over from the one before it (daemon/takeover): values, which say what
// is where. The descriptors are copies; the former supervisor has its own until it lets the listeners go.
#pragma once

#include <cstdint>
#include <vector>

#include "daemon/config/pool_config.h"
#include "shm/base/unique_fd.h"

namespace smbdirect::daemon {

/// A listening id of the RDMA connection manager, and whose it is.
struct RdmaListenerId {
  ListenerConfig listener;  // as the pool file has it
  uint32_t id = 0;

  bool operator==(const RdmaListenerId&) const = default;
};

struct InheritedListeners {
  struct Socket {
    ListenerConfig listener;  // as the pool file has it
    uint16_t port = 0;        // that it is bound to
    shm::UniqueFd fd;
  };
  std::vector<Socket> sockets;       // iwarp; listening
  std::vector<ListenerConfig> rdma;  // verbs; their ids move last (RdmaListeners::adopt)
  shm::UniqueFd rdma_file;           // that the ids are on; not valid where there are none
};

}  // namespace smbdirect::daemon
