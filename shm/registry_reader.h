// SPDX-License-Identifier: MIT
// The GUID registry as workers and the control program see it: mapped read-only from a descriptor, every
// answer a checked copy. Nothing here waits or fails after open(); an entry that is being changed all the
// time, or was left half changed by a dead supervisor, is a miss. Owned by the process that opened it; safe
// to use from several threads.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "shm/registry_search.h"
#include "shm/shared_map.h"

namespace smbdirect::shm {

class RegistryReader {
 public:
  /// The descriptor is borrowed for the call. What is not a sealed registry of this version is an error.
  [[nodiscard]] static Result<RegistryReader> open(int fd);

  [[nodiscard]] std::optional<Entry> find(const Guid& guid) const {
    return find_entry(MappedWords(map_.words()), geometry_, guid);
  }
  /// Visits every entry, in no order and not at one moment.
  template <class Visitor>
  void for_each(Visitor&& visit) const {
    Record words;
    for (size_t i = 0; i < geometry_.entry_count; ++i) {
      if (read_entry(MappedWords(map_.words()), i, nullptr, words) != Seen::match) continue;
      if (const std::optional<Entry> entry = decode(words)) visit(*entry);
    }
  }

  [[nodiscard]] const RegistryGeometry& geometry() const { return geometry_; }

 private:
  RegistryReader(SharedMap map, const RegistryGeometry& geometry)
      : map_(std::move(map)), geometry_(geometry) {}

  SharedMap map_;
  RegistryGeometry geometry_;
};

}  // namespace smbdirect::shm
