// SPDX-License-Identifier: MIT
// Responses that a slow client has not read yet: copied out of the receive buffers, so that those can be
// posted and granted again. A server closes a connection that grants it nothing for 5 s while it has data to
// send (Send Credit Grant Timer), but a TCP client may well pause longer than that. Owned by one
// ClientSession, on its thread; used only while a client lags behind.
#pragma once

#include <cstddef>
#include <span>

#include "workers/memory/slab.h"

namespace smbdirect::workers::connect {

class SpillBuffer {
 public:
  SpillBuffer(SlabPool& pool, uint64_t most) : pool_(pool), budget_(most) {}

  struct Copy {
    SlabRef owner;
    std::span<const std::byte> bytes;
  };
  /// Copies `bytes` (no more than a slab). An empty owner: there is no more room, nothing was copied.
  [[nodiscard]] Copy keep(std::span<const std::byte> bytes);

 private:
  SlabPool& pool_;
  Budget budget_;
  SlabRef slab_;  // being filled
  size_t used_ = 0;
};

}  // namespace smbdirect::workers::connect
