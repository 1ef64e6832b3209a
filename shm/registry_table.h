// SPDX-License-Identifier: MIT
// The writer's side of the registry's memory: creates it, and changes one entry at a time so that readers and
// a writer's death at any instruction see the change whole or not at all. Each change is first written to a
// journal, then made under the entry's sequence lock; after a death inside it, repair() finishes it. What
// the entries mean is registry_writer.h's business.
//
// Owned by the supervisor, the only process that can write here. A forked child shares the mapping: it may go
// on in its parent's place, or the parent after the child's death, if repair() comes first; never both.
#pragma once

#include <cstdint>
#include <optional>

#include "shm/registry_search.h"
#include "shm/shared_map.h"

namespace smbdirect::shm {

/// The stores that a change consists of, in their order.
enum class RegistryStep : uint8_t {
  journal_word,
  journal_ready,
  sequence_odd,
  entry_word,
  sequence_even,
  journal_clear,
  worker_slot,  // a slot's generation, a change of its own
};

/// Called after each store, so that a test can look, or die, exactly there.
struct RegistryFaults {
  void (*stored)(void* context, RegistryStep step) = nullptr;
  void* context = nullptr;
};

class RegistryTable {
 public:
  /// At least `entries` of them; the number is rounded up to a power of two. Without a key, a random one.
  [[nodiscard]] static Result<RegistryTable> create(size_t entries, std::optional<SipKey> key = {});

  /// Finishes what an earlier writer left half done. True: there was something.
  bool repair();

  struct Place {
    size_t index;
    bool found;  // else it is free for this GUID
  };
  /// Where the GUID is or may be put. Nothing: it is not there and has no room within the probe limit.
  [[nodiscard]] std::optional<Place> locate(const Guid& guid) const;
  /// The entry at this index, if one is in use there.
  [[nodiscard]] std::optional<Entry> read(size_t index) const;
  /// Neither EMPTY nor DELETED, whether it makes sense or not.
  [[nodiscard]] bool in_use(size_t index) const;
  void put(size_t index, const Entry& entry);
  void erase(size_t index);

  [[nodiscard]] uint64_t worker_word(uint32_t slot) const;
  void set_worker_word(uint32_t slot, uint64_t word);

  [[nodiscard]] const RegistryGeometry& geometry() const { return geometry_; }
  [[nodiscard]] const SharedMap& map() const { return map_; }
  void set_faults(const RegistryFaults& faults) { faults_ = faults; }

 private:
  RegistryTable(SharedMap map, const RegistryGeometry& geometry)
      : map_(std::move(map)), geometry_(geometry) {}

  [[nodiscard]] RegistryHeader& header();
  [[nodiscard]] EntryWords& entry(size_t index);
  [[nodiscard]] const EntryWords& entry(size_t index) const;
  [[nodiscard]] EntryState state(size_t index) const;
  void change(size_t index, const Record& next);
  void apply_journal();
  void store(uint64_t& word, uint64_t value, RegistryStep step);

  SharedMap map_;
  RegistryGeometry geometry_;
  RegistryFaults faults_;
};

}  // namespace smbdirect::shm
