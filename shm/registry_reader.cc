// SPDX-License-Identifier: MIT
#include "shm/registry_reader.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <string>

namespace smbdirect::shm {
namespace {

std::string expected(const char* field, uint64_t found, uint64_t wanted) {
  return std::string("GUID registry: its ") + field + " is " + std::to_string(found) +
         ", but this program expects " + std::to_string(wanted);
}

}  // namespace

Result<RegistryReader> RegistryReader::open(int fd) {
  Result<SharedMap> map = SharedMap::open(fd, registry_bytes(1), registry_bytes(kMaxEntries));
  if (!map) return std::unexpected(map.error());
  RegistryHeader header;  // a copy: what is checked is what is used
  std::memcpy(&header, map->words().data(), sizeof header);
  if (header.magic != RegistryHeader::kMagic)
    return fail("GUID registry: the shared memory is not a registry");
  if (header.version != RegistryHeader::kVersion) {
    return fail(expected("version", header.version, RegistryHeader::kVersion));
  }
  if (header.header_size != kRegistryHeaderSize) {
    return fail(expected("header size", header.header_size, kRegistryHeaderSize));
  }
  if (header.entry_size != sizeof(EntryWords)) {
    return fail(expected("entry size", header.entry_size, sizeof(EntryWords)));
  }
  if (!std::has_single_bit(header.entry_count) || registry_bytes(header.entry_count) != map->bytes()) {
    return fail("GUID registry: " + std::to_string(header.entry_count) + " entries do not fit its size of " +
                std::to_string(map->bytes()) + " bytes");
  }
  return RegistryReader(std::move(*map), {header.entry_count, header.hash_key});
}

}  // namespace smbdirect::shm
