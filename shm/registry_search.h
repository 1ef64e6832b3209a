// SPDX-License-Identifier: MIT
// How the registry is searched: open addressing with linear steps from the GUID's home, at most kProbeLimit
// of them, each entry read under its sequence lock. Pure over any view of shared words; readers use it, and
// the tests enumerate every interleaving of it with the writer's stores.
//
// Entries never move. An entry that ends becomes DELETED, which searches walk past and the writer uses again,
// instead of later entries being shifted back over it: a shift would make readers meet an entry twice or,
// worse, never, unless a lock covered the whole table. So an entry that nobody changes is found by every
// search, whatever the writer does, or left undone, to the entries around it; and a copy carries the GUID it
// was read with, so that one client's data is never returned for another's GUID. DELETED entries just before
// an EMPTY one become EMPTY again, because no search has to get past them.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <optional>

#include "shm/registry_layout.h"
#include "shm/seqlock.h"

namespace smbdirect::shm {

/// With a table at most half full, a run this long of entries in use does not happen by chance.
inline constexpr size_t kProbeLimit = 64;

[[nodiscard]] inline size_t probe_limit(const RegistryGeometry& geometry) {
  return std::min(geometry.entry_count, kProbeLimit);
}

/// What an entry showed. `unreadable`: it was being changed all the time, or its writer died in the change.
enum class Seen : uint8_t { empty, other, match, unreadable };

/// Reads the entry at index. A match's words are in `out`: `wanted`'s entry, or any in use when it is null.
template <class Memory>
[[nodiscard]] Seen read_entry(const Memory& memory, size_t index, const std::array<uint64_t, 2>* wanted,
                              Record& out) {
  const size_t sequence = RegistryGeometry::entry_word(index);
  const size_t words = sequence + 1;
  Seen seen = Seen::unreadable;
  const bool stable = read_stable(memory, sequence, [&] {
    out.fill(0);
    out[record::kStatus] = memory.load(words + record::kStatus);
    const EntryState state = state_of(out[record::kStatus]);
    seen = state == EntryState::empty ? Seen::empty : Seen::other;
    if (state != EntryState::starting && state != EntryState::live) return;
    out[record::kGuid] = memory.load(words + record::kGuid);
    out[record::kGuid + 1] = memory.load(words + record::kGuid + 1);
    if (wanted != nullptr && (out[record::kGuid] != (*wanted)[0] || out[record::kGuid + 1] != (*wanted)[1])) {
      return;
    }
    seen = Seen::match;
    for (size_t i = record::kStatus + 1; i < record::kAddresses; ++i) out[i] = memory.load(words + i);
    const size_t addresses = std::min(address_count(out[record::kStatus]), kClientAddresses);
    for (size_t i = record::kAddresses; i < record::kAddresses + 2 * addresses; ++i) {
      out[i] = memory.load(words + i);
    }
    for (uint64_t left = out[record::kWorkers]; left != 0; left &= left - 1) {
      const size_t i = record::kSlots + size_t(std::countr_zero(left));
      out[i] = memory.load(words + i);
    }
  });
  return stable ? seen : Seen::unreadable;
}

/// The GUID's entry, or nothing: there is none, or it could not be read.
template <class Memory>
[[nodiscard]] std::optional<Entry> find_entry(const Memory& memory, const RegistryGeometry& geometry,
                                              const Guid& guid) {
  const std::array<uint64_t, 2> wanted = guid_words(guid);
  Record words;
  size_t index = geometry.home(guid);
  for (size_t step = 0; step < probe_limit(geometry); ++step, index = geometry.next(index)) {
    switch (read_entry(memory, index, &wanted, words)) {
      case Seen::empty:
        return std::nullopt;
      case Seen::match:
        return decode(words);
      case Seen::other:
      case Seen::unreadable:
        break;
    }
  }
  return std::nullopt;
}

}  // namespace smbdirect::shm
