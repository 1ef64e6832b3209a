// SPDX-License-Identifier: MIT
#include "shm/registry_writer.h"

#include <algorithm>
#include <span>

namespace smbdirect::shm {
namespace {

constexpr uint64_t bit(uint32_t slot) { return uint64_t{1} << slot; }

/// True if the list changed.
bool add_address(Entry& entry, const Host& address) {
  if (address == Host{} || std::ranges::find(entry.addresses, address) != entry.addresses.end()) return false;
  if (entry.addresses.size() == kClientAddresses) entry.addresses.erase(entry.addresses.begin());
  entry.addresses.push_back(address);
  return true;
}

bool same_peer(const Peer& a, const Peer& b) { return !a.known() || !b.known() || a == b; }

}  // namespace

size_t RegistryWriter::HostHash::operator()(const Host& host) const {
  return siphash(key, std::as_bytes(std::span(host)));
}

Result<RegistryWriter> RegistryWriter::create(size_t entries, std::optional<SipKey> key) {
  Result<RegistryTable> table = RegistryTable::create(entries, key);
  if (!table) return std::unexpected(table.error());
  return RegistryWriter(std::move(*table));
}

RegistryWriter::RegistryWriter(RegistryTable table)
    : table_(std::move(table)), by_address_(0, HostHash{table_.geometry().hash_key}) {}

bool RegistryWriter::is_current(const WorkerRef& worker) const {
  return worker.slot < kWorkerSlots && workers_[worker.slot] == worker.generation;
}

std::optional<Entry> RegistryWriter::find(const Guid& guid) const {
  const auto place = table_.locate(guid);
  if (!place || !place->found) return std::nullopt;
  return table_.read(place->index);
}

void RegistryWriter::index_remove(size_t index, const Entry& entry) {
  --size_;
  for (const Host& address : entry.addresses) {
    const auto [begin, end] = by_address_.equal_range(address);
    const auto at = std::find_if(begin, end, [&](const auto& row) { return row.second == index; });
    if (at != end) by_address_.erase(at);
  }
}

void RegistryWriter::index_add(size_t index, const Entry& entry) {
  ++size_;
  for (const Host& address : entry.addresses) by_address_.emplace(address, uint32_t(index));
}

void RegistryWriter::put(size_t index, const std::optional<Entry>& before, const Entry& after) {
  if (before) index_remove(index, *before);
  table_.put(index, after);
  index_add(index, after);
}

void RegistryWriter::erase(size_t index, const Entry& before) {
  index_remove(index, before);
  table_.erase(index);
}

ClaimAnswer RegistryWriter::claim(const Guid& guid, const Host& address, const WorkerRef& worker,
                                  uint64_t now_ms) {
  if (!is_current(worker)) return {Claim::stale, {}};
  if (guid == Guid{}) return {Claim::not_claimable, {}};
  const auto place = table_.locate(guid);
  if (!place) return {Claim::full, {}};
  if (place->found) {
    std::optional<Entry> entry = table_.read(place->index);
    if (!entry) return {Claim::full, {}};  // nonsense, which nobody writes here
    const Entry before = *entry;
    if (add_address(*entry, address)) put(place->index, before, *entry);
    return {entry->state == EntryState::live ? Claim::owner : Claim::wait, std::move(entry)};
  }
  Entry entry;
  entry.guid = guid;
  entry.state = EntryState::starting;
  entry.starter = worker;
  entry.since_ms = now_ms;
  add_address(entry, address);
  put(place->index, {}, entry);
  return {Claim::granted, {}};
}

Report RegistryWriter::claim_failed(const Guid& guid, const WorkerRef& worker) {
  if (!is_current(worker)) return Report::stale;
  const auto place = table_.locate(guid);
  const std::optional<Entry> entry = place && place->found ? table_.read(place->index) : std::nullopt;
  if (!entry || entry->state != EntryState::starting || entry->starter != worker) return Report::unknown;
  erase(place->index, *entry);
  return Report::done;
}

Report RegistryWriter::channel_up(const Guid& guid, const WorkerRef& worker, const Peer& peer,
                                  const Host& address, uint64_t now_ms) {
  if (!is_current(worker)) return Report::stale;
  if (guid == Guid{}) return Report::not_claimable;
  const auto place = table_.locate(guid);
  if (!place) return Report::full;
  const std::optional<Entry> before = place->found ? table_.read(place->index) : std::nullopt;
  if (place->found && !before) return Report::full;
  Entry entry = before.value_or(Entry{});
  if (!same_peer(entry.peer, peer)) return Report::other_owner;
  if (entry.state != EntryState::live) {
    entry.guid = guid;
    entry.state = EntryState::live;
    entry.starter = worker;
    entry.since_ms = now_ms;
  }
  if (peer.known()) entry.peer = peer;
  SlotUse& use = entry.slots[worker.slot];
  if (!entry.has_worker(worker.slot)) use = {worker.generation, 0};
  if (use.channels == UINT32_MAX) return Report::full;
  ++use.channels;
  entry.workers |= bit(worker.slot);
  add_address(entry, address);
  put(place->index, before, entry);
  return Report::done;
}

Report RegistryWriter::channel_down(const Guid& guid, const WorkerRef& worker, const Peer& peer) {
  if (!is_current(worker)) return Report::stale;
  const auto place = table_.locate(guid);
  const std::optional<Entry> before = place && place->found ? table_.read(place->index) : std::nullopt;
  if (!before || !before->has_worker(worker.slot)) return Report::unknown;
  if (!same_peer(before->peer, peer)) return Report::other_owner;
  if (before->slots[worker.slot].channels == 1) {
    drop_worker(place->index, *before, worker);
    return Report::done;
  }
  Entry entry = *before;
  --entry.slots[worker.slot].channels;
  put(place->index, before, entry);
  return Report::done;
}

bool RegistryWriter::drop_worker(size_t index, Entry entry, const WorkerRef& gone) {
  const Entry before = entry;
  if (entry.state == EntryState::starting) {
    if (entry.starter != gone) return false;
  } else {
    if (!entry.has_worker(gone.slot) || entry.slots[gone.slot].generation != gone.generation) return false;
    entry.workers &= ~bit(gone.slot);
    entry.slots[gone.slot] = {};
    if (entry.workers != 0) {
      put(index, before, entry);
      return false;
    }
  }
  erase(index, before);
  return true;
}

std::vector<Guid> RegistryWriter::worker_started(const WorkerRef& worker) {
  if (worker.slot >= kWorkerSlots || is_current(worker)) return {};
  std::vector<Guid> gone;
  if (const auto former = workers_[worker.slot]) gone = worker_gone({worker.slot, *former});
  workers_[worker.slot] = worker.generation;
  return gone;
}

std::vector<Guid> RegistryWriter::worker_gone(const WorkerRef& worker) {
  if (!is_current(worker)) return {};
  workers_[worker.slot].reset();
  std::vector<Guid> gone;
  for (size_t i = 0; i < table_.geometry().entry_count; ++i) {
    std::optional<Entry> entry = table_.read(i);
    if (!entry) continue;
    const Guid guid = entry->guid;
    if (drop_worker(i, std::move(*entry), worker)) gone.push_back(guid);
  }
  return gone;
}

std::vector<Guid> RegistryWriter::peer_gone(const Peer& peer) {
  if (!peer.known()) return {};
  std::vector<Guid> gone;
  for (size_t i = 0; i < table_.geometry().entry_count; ++i) {
    const std::optional<Entry> entry = table_.read(i);
    if (!entry || entry->peer != peer) continue;
    gone.push_back(entry->guid);
    erase(i, *entry);
  }
  return gone;
}

uint64_t RegistryWriter::workers_at(const Host& address) const {
  uint64_t workers = 0;
  const auto [begin, end] = by_address_.equal_range(address);
  for (auto row = begin; row != end; ++row) {
    const std::optional<Entry> entry = table_.read(row->second);
    if (!entry) continue;
    workers |= entry->state == EntryState::starting ? bit(entry->starter.slot) : entry->workers;
  }
  return workers;
}

}  // namespace smbdirect::shm
