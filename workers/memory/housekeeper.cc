// SPDX-License-Identifier: MIT
#include "workers/memory/housekeeper.h"

#include <algorithm>
#include <malloc.h>
#include <utility>

namespace smbdirect::workers {
namespace {

constexpr size_t kHeapHoles = 4u << 20;

}  // namespace

void configure_heap() {
  // Left to itself, glibc moves both limits up with the largest block that was ever freed.
  constexpr int kMapBytes = 256 * 1024;
  constexpr int kTopBytes = 1024 * 1024;
  (void)::mallopt(M_MMAP_THRESHOLD, kMapBytes);
  (void)::mallopt(M_TRIM_THRESHOLD, kTopBytes);
}

Housekeeper::Housekeeper(uv_loop_t& loop, std::vector<SlabPool*> pools, std::function<size_t()> connections,
                         std::function<void(size_t share)> trim_some)
    : pools_(std::move(pools)),
      connections_(std::move(connections)),
      trim_some_(std::move(trim_some)),
      timer_(loop, [this] { on_timer(); }) {
  timer_.start(kTurnMs);
}

void Housekeeper::on_timer() {
  const bool due = until_turn_ms_ == 0;
  const bool more = due ? turn() : trim_pools(false);
  if (due) until_turn_ms_ = kTurnMs;
  const uint64_t wait_ms = more ? std::min(kPartMs, until_turn_ms_) : until_turn_ms_;
  until_turn_ms_ -= wait_ms;
  timer_.start(wait_ms);
}

bool Housekeeper::trim_pools(bool new_round) {
  bool more = false;
  for (SlabPool* pool : pools_) more = pool->trim(new_round) || more;
  return more;
}

bool Housekeeper::turn() {
  const size_t connections = connections_();
  const size_t part = turns_++ % kRound;
  trim_some_(connections * (part + 1) / kRound - connections * part / kRound);
  const bool new_round = part + 1 == kRound;
  const bool more = trim_pools(new_round);
  if (new_round) trim_heap();
  return more;
}

/// glibc by itself returns only memory that is free at the heap's end. Its count of free bytes says nothing
/// of which have gone back, so it is looked at again when there are more of them.
void Housekeeper::trim_heap() {
  const size_t holes = ::mallinfo2().fordblks;
  heap_holes_ = std::min(heap_holes_, holes);
  if (holes < heap_holes_ + kHeapHoles) return;
  (void)::malloc_trim(0);
  heap_holes_ = ::mallinfo2().fordblks;
}

}  // namespace smbdirect::workers
