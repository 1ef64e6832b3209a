// SPDX-License-Identifier: MIT
#include "workers/fabric/iwarp/stag_table.h"

#include <algorithm>
#include <bit>
#include <sys/random.h>
#include <utility>

namespace smbdirect::workers::fabric::iwarp {

void system_entropy(std::span<std::byte> out) {
  while (!out.empty()) {
    const ssize_t got = ::getrandom(out.data(), out.size(), 0);
    if (got > 0) out = out.subspan(static_cast<size_t>(got));  // otherwise a signal came first: again
  }
}

RangeFault check_range(const Stag& tag, uint64_t offset, uint64_t length) {
  if (offset + length < offset) return RangeFault::wrap;
  if (offset < tag.offset) return RangeFault::bounds;
  const uint64_t start = offset - tag.offset;
  if (start > tag.length || tag.length - start < length) return RangeFault::bounds;
  return RangeFault::none;
}

uint32_t StagTable::random() {
  if (pool_left_ == 0) {
    entropy_(std::as_writable_bytes(std::span(pool_)));
    pool_left_ = pool_.size();
  }
  return std::exchange(pool_[--pool_left_], 0);
}

// The tag itself is random, so it is its own hash. Half the slots at least are free.
uint32_t StagTable::slot_of(uint32_t stag) const {
  uint32_t slot = stag & mask_;
  while (slots_[slot].stag != 0 && slots_[slot].stag != stag) slot = (slot + 1) & mask_;
  return slot;
}

const Stag* StagTable::find(uint32_t stag) const {
  if (stag == 0 || slots_ == nullptr) return nullptr;
  const Stag& found = slots_[slot_of(stag)];
  return found.stag == stag ? &found : nullptr;
}

void StagTable::grow() {
  constexpr uint32_t kFirst = 16;
  const uint32_t old_size = slots_ == nullptr ? 0 : mask_ + 1;
  const uint32_t size = std::max(kFirst, old_size * 2);
  auto old = std::exchange(slots_, std::make_unique<Stag[]>(size));
  mask_ = size - 1;
  for (uint32_t i = 0; i < old_size; ++i) {
    if (old[i].stag != 0) slots_[slot_of(old[i].stag)] = old[i];
  }
}

const Stag* StagTable::add(StagUse use, std::span<std::byte> memory) {
  if (count_ == kMostStags) return nullptr;
  if (slots_ == nullptr || (count_ + 1) * 2 > mask_ + 1) grow();
  uint32_t stag = random();
  while (stag == 0 || find(stag) != nullptr) stag = random();
  // 47 bits, so that no range of memory can make it wrap. It says nothing about our addresses.
  const uint64_t offset = (static_cast<uint64_t>(random()) << 32 | random()) & 0x7fff'ffff'f000;
  Stag& slot = slots_[slot_of(stag)];
  slot = {.stag = stag, .use = use, .memory = memory.data(), .length = memory.size(), .offset = offset};
  ++count_;
  return &slot;
}

bool StagTable::remove(uint32_t stag) {
  if (stag == 0 || slots_ == nullptr) return false;
  uint32_t hole = slot_of(stag);
  if (slots_[hole].stag != stag) return false;
  slots_[hole] = {};
  --count_;
  // Close the gap, so that no probe sequence stops early.
  for (uint32_t at = (hole + 1) & mask_; slots_[at].stag != 0; at = (at + 1) & mask_) {
    const uint32_t home = slots_[at].stag & mask_;
    if (((at - home) & mask_) < ((at - hole) & mask_)) continue;  // already at or past its home
    slots_[hole] = std::exchange(slots_[at], Stag{});
    hole = at;
  }
  return true;
}

}  // namespace smbdirect::workers::fabric::iwarp
