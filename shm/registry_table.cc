// SPDX-License-Identifier: MIT
#include "shm/registry_table.h"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <ranges>
#include <string>
#include <sys/random.h>

namespace smbdirect::shm {

Result<RegistryTable> RegistryTable::create(size_t entries, std::optional<SipKey> key) {
  if (entries == 0 || entries > kMaxEntries) {
    return fail("GUID registry: " + std::to_string(entries) + " entries; allowed: 1 to " +
                std::to_string(kMaxEntries));
  }
  entries = std::bit_ceil(entries);
  if (!key) {
    key.emplace();
    if (getrandom(key->data(), sizeof(SipKey), 0) != ssize_t(sizeof(SipKey))) {
      return fail("GUID registry: random key", errno);
    }
  }
  Result<SharedMap> map = SharedMap::create("smbdirect-registry", registry_bytes(entries));
  if (!map) return std::unexpected(map.error());
  RegistryHeader header{};
  header.magic = RegistryHeader::kMagic;
  header.version = RegistryHeader::kVersion;
  header.header_size = kRegistryHeaderSize;
  header.entry_count = uint32_t(entries);
  header.entry_size = sizeof(EntryWords);
  header.hash_key = *key;
  std::memcpy(map->writable().data(), &header, sizeof header);  // nobody else has the descriptor yet
  return RegistryTable(std::move(*map), {entries, *key});
}

EntryWords& RegistryTable::entry(size_t index) {
  return reinterpret_cast<EntryWords&>(map_.writable()[RegistryGeometry::entry_word(index)]);
}
const EntryWords& RegistryTable::entry(size_t index) const {
  return reinterpret_cast<const EntryWords&>(map_.words()[RegistryGeometry::entry_word(index)]);
}

EntryState RegistryTable::state(size_t index) const {
  return state_of(load_word(entry(index).record[record::kStatus]));
}

void RegistryTable::store(uint64_t& word, uint64_t value, RegistryStep step) {
  store_word(word, value);
  if (faults_.stored != nullptr) faults_.stored(faults_.context, step);
}

void RegistryTable::change(size_t index, const Record& next) {
  EntryWords& target = entry(index);
  const auto differs = [&](size_t i) { return load_word(target.record[i]) != next[i]; };
  const auto all = std::views::iota(size_t{0}, next.size());
  if (std::ranges::none_of(all, differs)) return;
  const uint64_t sequence = load_word(target.sequence);
  store(target.sequence, sequence + 1, RegistryStep::sequence_odd);
  for (const size_t i : all) {
    if (differs(i)) store(target.record[i], next[i], RegistryStep::entry_word);
  }
  store(target.sequence, sequence + 2, RegistryStep::sequence_even);
}

std::optional<RegistryTable::Place> RegistryTable::locate(const Guid& guid) const {
  const std::array<uint64_t, 2> wanted = guid_words(guid);
  std::optional<Place> free;
  size_t index = geometry_.home(guid);
  for (size_t step = 0; step < probe_limit(geometry_); ++step, index = geometry_.next(index)) {
    if (in_use(index)) {
      const Record& words = entry(index).record;
      if (load_word(words[record::kGuid]) == wanted[0] && load_word(words[record::kGuid + 1]) == wanted[1]) {
        return Place{index, true};
      }
      continue;
    }
    if (!free) free = Place{index, false};
    if (state(index) == EntryState::empty) break;
  }
  return free;
}

bool RegistryTable::in_use(size_t index) const {
  return state(index) != EntryState::empty && state(index) != EntryState::deleted;
}

std::optional<Entry> RegistryTable::read(size_t index) const {
  Record words;
  if (read_entry(MappedWords(map_.words()), index, nullptr, words) != Seen::match) return std::nullopt;
  return decode(words);
}

void RegistryTable::put(size_t index, const Entry& entry) { change(index, encode(entry)); }

void RegistryTable::erase(size_t index) {
  const auto become = [this](size_t at, EntryState state) {
    Record words{};
    words[record::kStatus] = uint64_t(state);
    change(at, words);
  };
  if (state(geometry_.next(index)) != EntryState::empty) return become(index, EntryState::deleted);
  become(index, EntryState::empty);
  for (size_t at = geometry_.previous(index); state(at) == EntryState::deleted; at = geometry_.previous(at)) {
    become(at, EntryState::empty);
  }
}

}  // namespace smbdirect::shm
