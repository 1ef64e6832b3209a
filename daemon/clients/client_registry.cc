// SPDX-License-Identifier: MIT
#include "daemon/clients/client_registry.h"

#include <algorithm>
#include <utility>

#include "daemon/clients/server_processes.h"
#include "daemon/os/child_process.h"
#include "shm/base/log.h"
#include "shm/registry_reader.h"

namespace smbdirect::daemon {
namespace {

/// Room for twice the clients there can be: searches stay short.
constexpr size_t kEntriesPerConnection = 2;

/// The process of this number, now: no process is an answer, an error is that it cannot be told.
shm::Result<std::optional<shm::Peer>> find_process(uint32_t pid) {
  const auto facts = look_at_process(pid_t(pid));
  if (!facts) return std::unexpected(facts.error());
  if (!*facts) return std::nullopt;
  return shm::Peer{.pid = pid, .start_time = (*facts)->start_time};
}

}  // namespace

shm::Result<shm::RegistryWriter> ClientRegistry::make_registry(size_t connections) {
  return shm::RegistryWriter::create(std::min(connections * kEntriesPerConnection, shm::kMaxEntries));
}

void ClientRegistry::worker_ready(const shm::WorkerRef& worker) {
  generations_[worker.slot] = worker.generation;
  settle(writer_.worker_started(worker));
}

void ClientRegistry::worker_gone(const shm::WorkerRef& worker) {
  std::erase_if(connections_, [&](const auto& entry) {
    if (entry.first.first != worker.slot) return false;
    by_client_.erase({entry.second.guid, entry.first});
    release(entry.second.peer);
    return true;
  });
  settle(writer_.worker_gone(worker));
}

/// As the limits count it: an IPv6 client's further addresses push none out of an entry.
shm::Host ClientRegistry::client_of(const sockaddr_storage& address) const {
  return shm::network_of(shm::host_of(address), prefix_length_);
}

shm::WorkerRef ClientRegistry::current(const Key& key) const {
  const auto generation = generations_.find(key.first);
  return {.slot = key.first, .generation = generation == generations_.end() ? 0 : generation->second};
}

void ClientRegistry::claimed(const shm::WorkerRef& worker, shm::ConnectionId connection,
                             const shm::Guid& guid) {
  const Key key{worker.slot, connection};
  if (table_.addresses(connection, worker.slot) == nullptr || connections_.contains(key)) return;
  Connection& claiming = connections_[key] = {.guid = guid, .peer = {}, .order = ++claims_};
  by_client_.emplace(guid, key);
  claim(key, claiming);
}

/// Claims the connection's client for it, and returns the outcome.
void ClientRegistry::claim(const Key& key, Connection& connection) {
  const ConnectionTable::Addresses* addresses = table_.addresses(key.second, key.first);
  if (addresses == nullptr) return;
  const shm::Host address = client_of(addresses->peer);
  const std::optional<shm::Entry> before = writer_.find(connection.guid);
  connection.claimed_ms = loop_.now();
  shm::ClaimAnswer answer = writer_.claim(connection.guid, address, current(key), loop_.now());
  if (answer.outcome == shm::Claim::wait && end_old_start(connection.guid)) {
    answer = writer_.claim(connection.guid, address, current(key), loop_.now());
  }
  const bool waited = std::exchange(connection.waiting, answer.outcome == shm::Claim::wait);
  connection.starter = answer.outcome == shm::Claim::granted;
  if (before && std::ranges::find(before->addresses, address) == before->addresses.end()) ++learned_;
  if (!answer_ || (waited && connection.waiting)) return;
  switch (answer.outcome) {
    case shm::Claim::wait:
      return answer_(key.first, key.second, ClaimOutcome::wait);
    case shm::Claim::owner:
      return answer_(key.first, key.second, ClaimOutcome::owner);
    case shm::Claim::granted:
    case shm::Claim::not_claimable:  // it is served like any other, and its next connection goes by its
                                     // address
    case shm::Claim::full:
    case shm::Claim::stale:
      return answer_(key.first, key.second, ClaimOutcome::granted);
  }
}

/// A start that has run out of time has failed, whether its worker reports it or not: claims stop waiting for
/// it.
bool ClientRegistry::end_old_start(const shm::Guid& guid) {
  if (start_ms_ == 0) return false;
  for (auto at = by_client_.lower_bound({guid, {}}); at != by_client_.end() && at->first == guid; ++at) {
    Connection& starter = connections_.at(at->second);
    if (!starter.starter || loop_.now() - starter.claimed_ms <= start_ms_) continue;
    starter.starter = false;
    writer_.claim_failed(guid, current(at->second));
    return true;
  }
  return false;
}

void ClientRegistry::ask_again(const shm::WorkerRef& worker, shm::ConnectionId connection) {
  const auto found = connections_.find({worker.slot, connection});
  if (found == connections_.end() || found->second.up || found->second.starter) return;
  claim(found->first, found->second);
}

/// Entries of these clients have changed: what could not be recorded may be now; and of those that wait the
/// first to have claimed gets the claim, the others its outcome.
void ClientRegistry::settle(const std::vector<shm::Guid>& guids) {
  for (const shm::Guid& guid : guids) {
    std::vector<std::pair<uint64_t, Key>> waiting;
    for (auto at = by_client_.lower_bound({guid, {}}); at != by_client_.end() && at->first == guid; ++at) {
      const Key& key = at->second;
      Connection& connection = connections_.at(key);
      if (connection.waiting) waiting.emplace_back(connection.order, key);
      if (!connection.up && connection.peer.known()) (void)record(key, connection);
    }
    std::ranges::sort(waiting);
    for (const auto& [order, key] : waiting) claim(key, connections_.at(key));
  }
}

/// The connection is up, and is served by its peer. False: the entry is another's.
bool ClientRegistry::record(const Key& key, Connection& connection) {
  const ConnectionTable::Addresses* addresses = table_.addresses(key.second, key.first);
  if (addresses == nullptr) return false;
  const shm::Report report = writer_.channel_up(connection.guid, current(key), connection.peer,
                                                client_of(addresses->peer), loop_.now());
  if (report != shm::Report::done) return false;
  connection.up = true;
  connection.starter = connection.waiting = false;
  return true;
}

void ClientRegistry::channel_up(const shm::WorkerRef& worker, shm::ConnectionId connection,
                                uint32_t process) {
  const auto found = connections_.find({worker.slot, connection});
  if (found == connections_.end()) return;
  auto& [key, channel] = *found;
  // The smbd process is looked up only for smbdirectctl: smbd brings a client's channels together by itself.
  shm::Peer peer;
  if (process != 0) {
    const auto known = find_process(process);
    if (!known) return not_believed(key, channel, process, known.error().text());
    if (!*known) return;  // it has ended, and the channel with it
    peer = **known;
    // One that was the server's when it came stays so, whatever has become of its main process.
    const char* const objection = object_ && !peers_.contains(peer) ? object_(pid_t(process)) : nullptr;
    if (objection != nullptr) return not_believed(key, channel, process, objection);
  } else if (answer_) {
    return;  // a native peer has a name
  }
  if (channel.up && channel.peer == peer) return;
  if (channel.peer.known() || channel.up) take_down(key, channel);
  channel.peer = peer;
  if (peer.known()) watch(peer);
  if (record(key, channel)) return settle({channel.guid});
  const auto entry = writer_.find(channel.guid);
  if (!entry || !entry->peer.known()) return;
  const auto owner = find_process(entry->peer.pid);
  if (!owner || *owner == entry->peer) return;  // two serve the client
  peer_ended(entry->peer);
}

/// The connection has no valid channel: claims that wait for it continue without it.
void ClientRegistry::not_believed(const Key& key, Connection& connection, uint32_t process,
                                  const std::string& why) {
  log_.write(shm::log::Level::warning, "worker " + std::to_string(key.first), loop_.now(),
             "worker %u reports that process %u serves a client, which is ignored: %s", key.first, process,
             why.c_str());
  if (connection.peer.known() || connection.up) take_down(key, connection);
  if (std::exchange(connection.starter, false)) writer_.claim_failed(connection.guid, current(key));
  settle({connection.guid});
}

void ClientRegistry::channel_down(const shm::WorkerRef& worker, shm::ConnectionId connection) {
  const auto found = connections_.find({worker.slot, connection});
  if (found == connections_.end()) return;
  auto& [key, closing] = *found;
  const shm::Guid guid = closing.guid;
  if (!closing.up && closing.starter) writer_.claim_failed(guid, worker);
  take_down(key, closing);
  by_client_.erase({guid, key});
  connections_.erase(found);
  settle({guid});
}

void ClientRegistry::take_down(const Key& key, Connection& connection) {
  if (std::exchange(connection.up, false)) {
    writer_.channel_down(connection.guid, current(key), connection.peer);
  }
  release(std::exchange(connection.peer, {}));
}

std::vector<size_t> ClientRegistry::workers_of(const shm::Guid& guid, const shm::Peer& peer) const {
  std::vector<std::pair<uint64_t, size_t>> ages;
  for (auto at = by_client_.lower_bound({guid, {}}); at != by_client_.end() && at->first == guid; ++at) {
    const Connection& connection = connections_.at(at->second);
    if (connection.up && connection.peer == peer) ages.emplace_back(connection.order, at->second.first);
  }
  std::ranges::sort(ages);
  std::vector<size_t> slots;
  for (const auto& [order, slot] : ages) {
    if (std::ranges::find(slots, slot) == slots.end()) slots.push_back(slot);
  }
  return slots;
}

std::optional<shm::Guid> ClientRegistry::guid_of(const shm::WorkerRef& worker,
                                                 shm::ConnectionId connection) const {
  const auto found = connections_.find({worker.slot, connection});
  return found == connections_.end() ? std::nullopt : std::optional(found->second.guid);
}

// --- processes ---

/// Where it cannot be watched its entries go with its connections.
void ClientRegistry::watch(const shm::Peer& peer) {
  const auto [found, fresh] = peers_.try_emplace(peer);
  Watched& watched = found->second;
  ++watched.channels;
  if (!fresh) return;
  auto process = open_process(pid_t(peer.pid));
  if (!process) return;
  watched.process = std::move(*process);
  auto ended = shm::ReadWatch::make(loop_, watched.process.get(), [this, peer] { peer_ended(peer); });
  if (!ended) return;
  watched.ended = std::make_unique<shm::ReadWatch>(std::move(*ended));
  watched.ended->start();
}

void ClientRegistry::release(const shm::Peer& peer) {
  const auto found = peers_.find(peer);
  if (found != peers_.end() && --found->second.channels == 0) peers_.erase(found);
}

/// Its entries go; its connections end as their workers see them end.
void ClientRegistry::peer_ended(shm::Peer peer) {
  for (auto& [key, connection] : connections_) {
    if (connection.peer != peer) continue;
    connection.up = false;
    connection.peer = {};
  }
  peers_.erase(peer);
  settle(writer_.peer_gone(peer));
}

std::vector<shm::Entry> ClientRegistry::list() const {
  std::vector<shm::Entry> entries;
  if (const auto reader = shm::RegistryReader::open(writer_.fd())) {
    reader->for_each([&](const shm::Entry& entry) { entries.push_back(entry); });
  }
  std::ranges::sort(entries, {}, &shm::Entry::guid);
  return entries;
}

shm::Totals ClientRegistry::totals() const {
  return {{"clients", writer_.size()}, {"addresses_learned", learned_}};
}

}  // namespace smbdirect::daemon
