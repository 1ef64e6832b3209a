// SPDX-License-Identifier: MIT
// How the GUID registry lies in its shared memory, and what an entry means. The registry says which smbd
// process (the peer) serves a client, known by the ClientGuid of its SMB2 NEGOTIATE, and which workers have
// channels with that peer. The supervisor writes it (registry_writer.h); workers and the control program map
// it read-only (registry_reader.h). Everything is a 64-bit word; there are no pointers, and what is read is
// checked before it is used, for a reader need not trust the writer. If the supervisor dies the memory stays
// readable for those who mapped it; the next supervisor makes its own.
#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <type_traits>
#include <vector>

#include "shm/base/guid.h"
#include "shm/base/socket_address.h"
#include "shm/siphash.h"

namespace smbdirect::shm {

inline constexpr size_t kWorkerSlots = 64;
inline constexpr size_t kClientAddresses = 8;

/// A word of its own in each entry. A client's first connection is STARTING until its outcome is known.
/// DELETED marks a place that searches must walk past (registry_search.h).
enum class EntryState : uint8_t { empty = 0, starting = 1, live = 2, deleted = 3 };
[[nodiscard]] std::string_view state_name(EntryState state);

/// A process, for as long as the system runs: pids are used again, a start time with them is not
/// (/proc/PID/stat, field 22). pid 0: not known.
struct Peer {
  uint32_t pid = 0;
  uint64_t start_time = 0;
  [[nodiscard]] bool known() const { return pid != 0; }
  auto operator<=>(const Peer&) const = default;
};

/// A worker, for as long as the supervisor runs: a slot is used again, with the next generation.
struct WorkerRef {
  uint32_t slot = 0;
  uint32_t generation = 0;
  bool operator==(const WorkerRef&) const = default;
};

/// What one worker has of an entry; meaningful where the entry's bit for the slot is set.
struct SlotUse {
  uint32_t generation = 0;
  uint32_t channels = 0;
  bool operator==(const SlotUse&) const = default;
};

/// An entry, checked. STARTING: starter works on the client's first connection, workers is 0. LIVE: workers
/// is not 0, and each worker in it has at least one channel.
struct Entry {
  Guid guid{};
  EntryState state = EntryState::empty;
  Peer peer;
  WorkerRef starter;
  uint64_t since_ms = 0;  // when the state began, on the supervisor's monotonic clock
  uint64_t workers = 0;   // bit n: slot n
  std::array<SlotUse, kWorkerSlots> slots{};
  std::vector<Host> addresses;  // of the client, oldest first

  [[nodiscard]] bool has_worker(size_t slot) const { return (workers >> slot & 1) != 0; }
  [[nodiscard]] uint64_t channels() const;
  bool operator==(const Entry&) const = default;
};

/// The words of an entry after its sequence word. kStatus: state in bits 0-7, number of addresses in 8-15.
namespace record {
inline constexpr size_t kGuid = 0;
inline constexpr size_t kStatus = 2;
inline constexpr size_t kWorkers = 3;
inline constexpr size_t kPeerPid = 4;
inline constexpr size_t kPeerStart = 5;
inline constexpr size_t kSince = 6;  // the last word of the first cache line, all that a miss needs
inline constexpr size_t kStarter = 7;
inline constexpr size_t kAddresses = 8;
inline constexpr size_t kSlots = kAddresses + 2 * kClientAddresses;
inline constexpr size_t kWords = kSlots + kWorkerSlots;
}  // namespace record

using Record = std::array<uint64_t, record::kWords>;

/// The words that encode an entry; those it has no use for are zero.
[[nodiscard]] Record encode(const Entry& entry);
/// Nothing when the record is no STARTING or LIVE entry that makes sense.
[[nodiscard]] std::optional<Entry> decode(const Record& record);

[[nodiscard]] constexpr EntryState state_of(uint64_t status) { return EntryState(status & 0xff); }
[[nodiscard]] constexpr size_t address_count(uint64_t status) { return status >> 8 & 0xff; }
[[nodiscard]] std::array<uint64_t, 2> guid_words(const Guid& guid);

struct EntryWords {
  uint64_t sequence;
  Record record;
  std::array<uint64_t, 7> unused;  // whole cache lines
};
static_assert(std::is_trivially_copyable_v<EntryWords> && std::is_standard_layout_v<EntryWords>);
static_assert(record::kWords == 88 && offsetof(EntryWords, record) == 8 && sizeof(EntryWords) == 768);

struct RegistryHeader {
  static constexpr uint64_t kMagic = 0x5244'4955'4742'4d53;  // "SMBGUIDR"
  static constexpr uint32_t kVersion = 1;

  uint64_t magic;
  uint32_t version;
  uint32_t header_size;
  uint32_t entry_count;
  uint32_t entry_size;
  SipKey hash_key;
  std::array<uint64_t, 3> unused;  // a whole cache line
};
inline constexpr size_t kRegistryHeaderSize = 64;
static_assert(std::is_trivially_copyable_v<RegistryHeader> && std::is_standard_layout_v<RegistryHeader>);
static_assert(offsetof(RegistryHeader, version) == 8 && offsetof(RegistryHeader, header_size) == 12);
static_assert(offsetof(RegistryHeader, entry_count) == 16 && offsetof(RegistryHeader, entry_size) == 20);
static_assert(offsetof(RegistryHeader, hash_key) == 24 && sizeof(RegistryHeader) == kRegistryHeaderSize);

inline constexpr size_t kMaxEntries = 1u << 20;
[[nodiscard]] constexpr size_t registry_bytes(size_t entries) {
  return kRegistryHeaderSize + entries * sizeof(EntryWords);
}

/// The facts about one registry that its readers and its writer compute with. A copy, taken once.
struct RegistryGeometry {
  size_t entry_count = 0;  // a power of two
  SipKey hash_key{};

  /// Where a search for the GUID begins.
  [[nodiscard]] size_t home(const Guid& guid) const {
    return siphash(hash_key, guid.bytes) & (entry_count - 1);
  }
  [[nodiscard]] size_t next(size_t index) const { return (index + 1) & (entry_count - 1); }
  [[nodiscard]] size_t previous(size_t index) const { return (index - 1) & (entry_count - 1); }
  /// The entry's sequence word; its record follows.
  [[nodiscard]] static size_t entry_word(size_t index) {
    return (kRegistryHeaderSize + index * sizeof(EntryWords)) / sizeof(uint64_t);
  }
};

}  // namespace smbdirect::shm
