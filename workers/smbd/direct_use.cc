// SPDX-License-Identifier: MIT
#include "workers/smbd/direct_use.h"

#include <algorithm>
#include <atomic>

#include "protocol/proxy/smbdirect_area.h"
#include "protocol/smb2/channel_sequence.h"

namespace smbdirect::workers {
namespace {

namespace smb2 = protocol::smb2;

constexpr uint32_t kSequenceShift = 16;

}  // namespace

shm::Result<std::unique_ptr<DirectUse>> DirectUse::open(int memory, uint32_t row, shm::UniqueFd link) {
  constexpr size_t kBytes = SMBDIRECT_USE_SIZE(size_t{SMBDIRECT_SLOTS_MAX});
  auto map = shm::SharedMap::open(memory, kBytes, kBytes, shm::SharedMap::Writers::everybody);
  if (!map) return std::unexpected(map.error());
  return std::make_unique<DirectUse>(std::move(*map), row, std::move(link));
}

std::span<uint32_t> DirectUse::marks(uint32_t slot) const {
  auto* const first = reinterpret_cast<uint32_t*>(words_.data() + SMBDIRECT_SLOTS_MAX);
  return {first + size_t{slot} * SMBDIRECT_USE_ROWS, SMBDIRECT_USE_ROWS};
}

bool DirectUse::is_newest(uint32_t slot, uint32_t generation, uint16_t sequence) const {
  return std::atomic_ref(words_[slot]).load() == (uint64_t{generation} << 32 | sequence);
}

void DirectUse::raise(uint32_t slot, uint32_t generation, uint16_t sequence) {
  const std::atomic_ref shared(words_[slot]);
  uint64_t word = shared.load();
  while (SMBDIRECT_USE_GENERATION(word) == generation &&
         smb2::older_sequence(uint16_t(SMBDIRECT_USE_SEQUENCE(word)), sequence) &&
         !shared.compare_exchange_weak(
             word, uint64_t{generation} << 32 | (word & SMBDIRECT_USE_CLOSING) | sequence)) {
  }
}

bool DirectUse::older_under_way(uint32_t slot, uint16_t sequence) const {
  return std::ranges::any_of(marks(slot), [&](uint32_t& place) {
    const uint32_t mark = std::atomic_ref(place).load();
    return SMBDIRECT_USE_MARK_COUNT(mark) != 0 &&
           smb2::older_sequence(uint16_t(SMBDIRECT_USE_MARK_SEQUENCE(mark)), sequence);
  });
}

void DirectUse::close(uint32_t slot, uint32_t generation) {
  const std::atomic_ref shared(words_[slot]);
  uint64_t word = shared.load();
  while (SMBDIRECT_USE_GENERATION(word) == generation && (word & SMBDIRECT_USE_CLOSING) == 0 &&
         !shared.compare_exchange_weak(word, word | SMBDIRECT_USE_CLOSING)) {
  }
}

bool DirectUse::under_way(uint32_t slot) const {
  return std::ranges::any_of(marks(slot), [](uint32_t& place) {
    return SMBDIRECT_USE_MARK_COUNT(std::atomic_ref(place).load()) != 0;
  });
}

/// Those that are under way already keep the mark at the older sequence: it is waited for too long, and never
/// for too short.
uint32_t& DirectUse::begin(uint32_t slot, uint16_t sequence) {
  uint32_t& place = marks(slot)[row_];
  const std::atomic_ref shared(place);
  uint32_t mark = shared.load();
  uint32_t next = 0;
  do {
    next = SMBDIRECT_USE_MARK_COUNT(mark) == 0 ? uint32_t{sequence} << kSequenceShift | 1 : mark + 1;
  } while (!shared.compare_exchange_weak(mark, next));
  return place;
}

DirectUse::Mark::~Mark() { std::atomic_ref(*mark_).fetch_sub(1); }

}  // namespace smbdirect::workers
