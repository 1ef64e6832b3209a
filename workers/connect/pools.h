// SPDX-License-Identifier: MIT
// The memory that all connections of one smbdirect-connect share, and how much one of them may take. Owned by
// the program, outlives every session; one thread.
#pragma once

#include <algorithm>
#include <cstdint>

#include "workers/memory/slab.h"

namespace smbdirect::workers::connect {

struct Pools {
  static constexpr uint32_t kStreamSlab = 256 * 1024;
  static constexpr uint32_t kSmallSlab = 64 * 1024;
  static constexpr uint32_t kHeaderSlab = 4096;

  explicit Pools(uint32_t max_receive_size, uint32_t stream_slab = kStreamSlab)
      : receive(arena, std::max<uint32_t>(512, max_receive_size)), stream(arena, stream_slab) {}

  Arena arena;
  SlabPool receive;                     // received SMB Direct messages
  SlabPool header{arena, kHeaderSlab};  // SMB Direct headers, RDMA-channel requests
  SlabPool stream;                      // bytes from the client; memory for large RDMA-channel READs
  SlabPool small{arena, kSmallSlab};    // memory for RDMA-channel READs that fit
};

/// Per connection, in bytes.
struct MemoryLimits {
  uint64_t requests = 32u << 20;  // read from the client and not yet sent, or exposed for RDMA-channel WRITEs
  uint64_t reads = 32u << 20;     // exposed for RDMA-channel READs and not yet delivered
  uint64_t responses = 64u << 20;  // copied out of received messages that a slow client has not taken
};

}  // namespace smbdirect::workers::connect
