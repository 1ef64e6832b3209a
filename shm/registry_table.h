// SPDX-License-Identifier: MIT
// The writer's side of the registry's memory: creates it, and changes one entry at a time, under the entry's
// sequence lock, so that readers see each change whole or not at all. registry_writer.h says what the entries
// mean.
//
// Owned by the supervisor, the only process that can write here. The memory never gets a second writer: if
// the supervisor dies during a change, the entry is a miss for the remaining workers, and the next supervisor
// makes a registry of its own.
#pragma once

#include <cstdint>
#include <optional>

#include "shm/registry_search.h"
#include "shm/shared_map.h"

namespace smbdirect::shm {

/// The stores that a change consists of, in their order.
enum class RegistryStep : uint8_t {
  sequence_odd,
  entry_word,
  sequence_even,
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

  [[nodiscard]] const RegistryGeometry& geometry() const { return geometry_; }
  [[nodiscard]] const SharedMap& map() const { return map_; }
  void set_faults(const RegistryFaults& faults) { faults_ = faults; }

 private:
  RegistryTable(SharedMap map, const RegistryGeometry& geometry)
      : map_(std::move(map)), geometry_(geometry) {}

  [[nodiscard]] EntryWords& entry(size_t index);
  [[nodiscard]] const EntryWords& entry(size_t index) const;
  [[nodiscard]] EntryState state(size_t index) const;
  void change(size_t index, const Record& next);
  void store(uint64_t& word, uint64_t value, RegistryStep step);

  SharedMap map_;
  RegistryGeometry geometry_;
  RegistryFaults faults_;
};

}  // namespace smbdirect::shm
