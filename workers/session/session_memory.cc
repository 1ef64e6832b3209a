// SPDX-License-Identifier: MIT
#include "workers/session/session_memory.h"

#include <utility>

namespace smbdirect::workers {

SlabRef SessionMemory::refuse(uint64_t size) {
  const bool own = budget_.limit() < budget_.used() || budget_.limit() - budget_.used() < size;
  short_of_ = own ? Room::own : Room::others;
  return {};
}

bool SessionMemory::passes() { return std::exchange(let_through_, false); }

SlabRef SessionMemory::slab(bool only) {
  const uint32_t size = slabs_.slab_size();
  if (worker_.fits(*client_, size) && budget_.has_room(size)) return slabs_.acquire(budget_);
  if ((only && worker_.floor_fits(size)) || passes()) return slabs_.acquire_forced(budget_);
  return refuse(size);
}

SlabRef SessionMemory::block(uint32_t size, bool only) {
  const bool fits = worker_.fits(*client_, size) || (only && worker_.alone(*client_));
  if ((fits && (only || budget_.has_room(size))) || passes())
    return acquire_block_forced(slabs_.arena(), size, budget_);
  return refuse(size);
}

SlabRef SessionMemory::reply_block(uint32_t size, bool only) {
  const Budget& held = worker_.held();
  const bool fits = held.has_room(size) && (only || budget_.has_room(size));
  if (fits || passes()) return acquire_block_forced(slabs_.arena(), size, budget_);
  return refuse(size);
}

}  // namespace smbdirect::workers
