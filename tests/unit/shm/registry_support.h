// SPDX-License-Identifier: MIT
// What the registry's tests share: names for GUIDs, addresses and peers, GUIDs that collide, and registries
// compared by what they say. Each test owns what it makes.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <map>
#include <random>
#include <vector>

#include "shm/registry_reader.h"
#include "shm/registry_writer.h"

namespace smbdirect::tests {

inline shm::Guid guid_number(uint64_t number) {
  shm::Guid guid{};
  for (size_t i = 0; i < 8; ++i) guid.bytes[i] = std::byte(number >> 8 * i);
  guid.bytes[15] = std::byte{0x42};  // never the zero GUID
  return guid;
}
inline uint64_t number_of(const shm::Guid& guid) {
  uint64_t number = 0;
  for (size_t i = 0; i < 8; ++i) number |= std::to_integer<uint64_t>(guid.bytes[i]) << 8 * i;
  return number;
}

inline shm::Host host_number(uint32_t number) {
  shm::Host host{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  for (size_t i = 0; i < 4; ++i) host[12 + i] = uint8_t(number >> (24 - 8 * i));
  return host;
}

/// The first `count` GUIDs whose searches begin at the same entry as guid_number(1)'s.
inline std::vector<shm::Guid> colliding_guids(const shm::RegistryGeometry& geometry, size_t count) {
  std::vector<shm::Guid> found;
  for (uint64_t number = 1; found.size() < count; ++number) {
    if (geometry.home(guid_number(number)) == geometry.home(guid_number(1)))
      found.push_back(guid_number(number));
  }
  return found;
}

/// How often a randomised test repeats itself; SMBDIRECTD_ROUNDS asks for more (or fewer).
inline std::optional<uint64_t> rounds_asked() {
  const char* const asked = std::getenv("SMBDIRECTD_ROUNDS");
  if (asked == nullptr) return std::nullopt;
  return std::strtoull(asked, nullptr, 10);
}
inline uint64_t rounds(uint64_t by_default) { return rounds_asked().value_or(by_default); }
/// SMBDIRECTD_SEED repeats a run whose seed was printed.
inline uint32_t seed() {
  const char* const asked = std::getenv("SMBDIRECTD_SEED");
  return asked == nullptr ? std::random_device{}() : uint32_t(std::strtoul(asked, nullptr, 10));
}

using Contents = std::map<shm::Guid, shm::Entry>;

inline Contents contents_of(const shm::RegistryReader& reader) {
  Contents contents;
  reader.for_each([&](const shm::Entry& entry) { contents.emplace(entry.guid, entry); });
  return contents;
}

}  // namespace smbdirect::tests
