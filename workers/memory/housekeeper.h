// SPDX-License-Identifier: MIT
// Returns memory to the system after a burst of connections or data: free slabs, queues that grew, the
// buffers of quiet connections, the heap. It is not on the data path: a timer runs now and then, visits a
// share of the connections, and does bounded work each time. Owned by the worker (or smbdirect-connect); the
// loop's thread only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include <uv.h>

#include "shm/loop/loop.h"
#include "workers/memory/slab.h"

namespace smbdirect::workers {

/// At start: blocks that are large enough go back to the system when they are freed, whatever was freed
/// before.
void configure_heap();

class Housekeeper {
 public:
  static constexpr uint64_t kTurnMs = 500;
  /// Between the parts of a turn's work, each of which is short.
  static constexpr uint64_t kPartMs = 50;
  /// The number of turns in which each connection is visited once. Only memory that was not needed during a
  /// whole round is freed: bursts that come more often keep their memory.
  static constexpr size_t kRound = 8;

  /// trim_some(share): trims so many connections, in turn. connections(): how many there are.
  Housekeeper(uv_loop_t& loop, std::vector<SlabPool*> pools, std::function<size_t()> connections,
              std::function<void(size_t share)> trim_some);

 private:
  void on_timer();
  /// True: the pools have more to free.
  bool turn();
  [[nodiscard]] bool trim_pools(bool new_round);
  void trim_heap();

  std::vector<SlabPool*> pools_;
  std::function<size_t()> connections_;
  std::function<void(size_t share)> trim_some_;
  size_t turns_ = 0;
  uint64_t until_turn_ms_ = 0;  // from when the timer fires on
  size_t heap_holes_ = 0;       // free bytes in the heap after the last time it was trimmed, or less
  shm::Timer timer_;
};

}  // namespace smbdirect::workers
