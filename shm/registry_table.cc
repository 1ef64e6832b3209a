// SPDX-License-Identifier: MIT
#include "shm/registry_table.h"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <string>
#include <sys/random.h>

namespace smbdirect::shm {

Result<RegistryTable> RegistryTable::create(size_t entries, std::optional<SipKey> key) {
  if (entries == 0 || entries > kMaxEntries) {
    return fail("GUID registry: " + std::to_string(entries) + " entries; 1 to " +
                std::to_string(kMaxEntries) + " are possible");
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

RegistryHeader& RegistryTable::header() { return *reinterpret_cast<RegistryHeader*>(map_.writable().data()); }

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
  const EntryWords& now = entry(index);
  JournalWords& journal = header().journal;
  size_t edits = 0;
  for (size_t i = 0; i < next.size(); ++i) {
    if (load_word(now.record[i]) == next[i]) continue;
    store(journal.edits[2 * edits], i, RegistryStep::journal_word);
    store(journal.edits[2 * edits + 1], next[i], RegistryStep::journal_word);
    ++edits;
  }
  if (edits == 0) return;
  store(journal.sequence, (load_word(now.sequence) | 1) + 1, RegistryStep::journal_word);
  store(journal.ready, (index + 1) | uint64_t(edits) << 32, RegistryStep::journal_ready);
  apply_journal();
}

/// Doing it twice, or again from any point of it, gives the same.
void RegistryTable::apply_journal() {
  JournalWords& journal = header().journal;
  const uint64_t ready = load_word(journal.ready);
  // Only this side writes the journal, but an index is checked wherever it comes from.
  const uint64_t index = (ready & UINT32_MAX) - 1;
  const uint64_t edits = ready >> 32;
  if (index < geometry_.entry_count && edits <= record::kWords) {
    EntryWords& target = entry(index);
    const uint64_t sequence = load_word(journal.sequence);
    store(target.sequence, sequence - 1, RegistryStep::sequence_odd);
    for (size_t i = 0; i < edits; ++i) {
      const uint64_t word = load_word(journal.edits[2 * i]);
      if (word >= record::kWords) continue;
      store(target.record[word], load_word(journal.edits[2 * i + 1]), RegistryStep::entry_word);
    }
    store(target.sequence, sequence, RegistryStep::sequence_even);
  }
  store(journal.ready, 0, RegistryStep::journal_clear);
}

bool RegistryTable::repair() {
  bool found = load_word(header().journal.ready) != 0;
  if (found) apply_journal();
  for (size_t i = 0; i < geometry_.entry_count; ++i) {
    // Without a journal there is no saying what an odd entry was to become, and nonsense has no use.
    const bool odd = load_word(entry(i).sequence) % 2 != 0;
    if (!odd && (!in_use(i) || read(i))) continue;
    found = true;
    if (!in_use(i)) {
      store(entry(i).sequence, load_word(entry(i).sequence) + 1, RegistryStep::sequence_even);
    } else {
      erase(i);
    }
  }
  return found;
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

uint64_t RegistryTable::worker_word(uint32_t slot) const {
  return load_word(map_.words()[offsetof(RegistryHeader, workers) / 8 + slot]);
}

void RegistryTable::set_worker_word(uint32_t slot, uint64_t word) {
  store(header().workers[slot], word, RegistryStep::worker_slot);
}

}  // namespace smbdirect::shm
