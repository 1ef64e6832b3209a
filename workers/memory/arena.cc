// SPDX-License-Identifier: MIT
#include "workers/memory/arena.h"

#include <algorithm>
#include <cassert>

namespace smbdirect::workers {

uint32_t Arena::add(std::span<std::byte> block) {
  assert(!block.empty());
  if (free_.empty()) {
    blocks_.push_back(block);
    return static_cast<uint32_t>(blocks_.size() - 1);
  }
  const uint32_t key = free_.back();
  free_.pop_back();
  blocks_[key] = block;
  return key;
}

void Arena::remove(uint32_t key) {
  assert(!block(key).empty());
  for (Registrar* registrar : registrars_) registrar->block_gone(key);
  blocks_[key] = {};
  free_.push_back(key);
}

bool Arena::registered(uint32_t key) const {
  return std::ranges::any_of(registrars_, [key](const Registrar* r) { return r->holds(key); });
}

void Arena::watch(Registrar& registrar) { registrars_.push_back(&registrar); }

void Arena::unwatch(Registrar& registrar) { std::erase(registrars_, &registrar); }

}  // namespace smbdirect::workers
