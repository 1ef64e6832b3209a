// SPDX-License-Identifier: MIT
#include "shm/registry_layout.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace smbdirect::shm {
namespace {

constexpr uint64_t pair(uint32_t low, uint32_t high) { return low | uint64_t(high) << 32; }
constexpr uint32_t low(uint64_t word) { return uint32_t(word); }
constexpr uint32_t high(uint64_t word) { return uint32_t(word >> 32); }

}  // namespace

std::string_view state_name(EntryState state) {
  switch (state) {
    case EntryState::empty:
      return "EMPTY";
    case EntryState::starting:
      return "STARTING";
    case EntryState::live:
      return "LIVE";
    case EntryState::deleted:
      return "DELETED";
  }
  return "?";
}

uint64_t Entry::channels() const {
  uint64_t sum = 0;
  for (uint64_t left = workers; left != 0; left &= left - 1)
    sum += slots[size_t(std::countr_zero(left))].channels;
  return sum;
}

std::array<uint64_t, 2> guid_words(const Guid& guid) {
  return std::bit_cast<std::array<uint64_t, 2>>(guid.bytes);
}

Record encode(const Entry& entry) {
  Record words{};
  const size_t addresses = std::min(entry.addresses.size(), kClientAddresses);
  std::memcpy(&words[record::kGuid], entry.guid.bytes.data(), entry.guid.bytes.size());
  words[record::kStatus] = uint64_t(entry.state) | addresses << 8;
  words[record::kWorkers] = entry.workers;
  words[record::kPeerPid] = entry.peer.pid;
  words[record::kPeerStart] = entry.peer.start_time;
  words[record::kSince] = entry.since_ms;
  words[record::kStarter] = pair(entry.starter.slot, entry.starter.generation);
  for (size_t i = 0; i < addresses; ++i) {
    std::memcpy(&words[record::kAddresses + 2 * i], entry.addresses[i].data(), sizeof(Host));
  }
  for (uint64_t left = entry.workers; left != 0; left &= left - 1) {
    const auto slot = size_t(std::countr_zero(left));
    words[record::kSlots + slot] = pair(entry.slots[slot].generation, entry.slots[slot].channels);
  }
  return words;
}

std::optional<Entry> decode(const Record& words) {
  Entry entry;
  entry.state = state_of(words[record::kStatus]);
  const size_t addresses = address_count(words[record::kStatus]);
  if (entry.state != EntryState::starting && entry.state != EntryState::live) return std::nullopt;
  if (addresses > kClientAddresses || words[record::kPeerPid] > UINT32_MAX) return std::nullopt;
  std::memcpy(entry.guid.bytes.data(), &words[record::kGuid], entry.guid.bytes.size());
  if (entry.guid == Guid{}) return std::nullopt;
  entry.workers = words[record::kWorkers];
  if ((entry.state == EntryState::live) != (entry.workers != 0)) return std::nullopt;
  entry.peer = {uint32_t(words[record::kPeerPid]), words[record::kPeerStart]};
  entry.since_ms = words[record::kSince];
  entry.starter = {low(words[record::kStarter]), high(words[record::kStarter])};
  if (entry.starter.slot >= kWorkerSlots) return std::nullopt;
  entry.addresses.resize(addresses);
  for (size_t i = 0; i < addresses; ++i) {
    std::memcpy(entry.addresses[i].data(), &words[record::kAddresses + 2 * i], sizeof(Host));
  }
  for (uint64_t left = entry.workers; left != 0; left &= left - 1) {
    const auto slot = size_t(std::countr_zero(left));
    const uint64_t use = words[record::kSlots + slot];
    entry.slots[slot] = {low(use), high(use)};
    if (entry.slots[slot].channels == 0) return std::nullopt;
  }
  return entry;
}

}  // namespace smbdirect::shm
