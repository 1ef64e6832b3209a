// SPDX-License-Identifier: MIT
#include "daemon/clients.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <fcntl.h>
#include <sstream>
#include <utility>

#include "daemon/child_process.h"
#include "shm/log.h"
#include "shm/registry_reader.h"

namespace smbdirect::daemon {
namespace {

/// Room for twice the clients there can be: searches stay short.
constexpr size_t kEntriesPerConnection = 2;

/// The process of this number, now: no process is an answer, an error is that it cannot be told.
shm::Result<std::optional<shm::Peer>> find_process(uint32_t pid) {
  const std::string path = "/proc/" + std::to_string(pid) + "/stat";
  const shm::UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  char text[1024];
  const ssize_t got = fd.valid() ? read(fd.get(), text, sizeof text) : -1;
  // Hidden is not gone: the unit's ProtectProc shows a process by its user of the moment.
  if (got < 0 && (errno == ENOENT || errno == ESRCH)) {
    if (kill(pid_t(pid), 0) != 0 && errno == ESRCH) return std::nullopt;
    return shm::Peer{.pid = pid, .start_time = 0};
  }
  if (got < 0) return shm::fail("process " + std::to_string(pid), errno);
  const std::string line(text, size_t(got));
  // The second field is a name in brackets, which may hold anything.
  std::istringstream fields(line.substr(line.rfind(')') + 1));
  std::string state;
  std::string field;
  fields >> state;
  for (int i = 4; i <= 22; ++i) fields >> field;
  if (!fields) return shm::fail("process " + std::to_string(pid), EPROTO);
  if (state == "Z" || state == "X") return std::nullopt;
  return shm::Peer{.pid = pid, .start_time = std::stoull(field)};
}

}  // namespace

shm::Result<std::unique_ptr<Clients>> Clients::create(Loop& loop, size_t connections, const Roster& roster) {
  auto writer = shm::RegistryWriter::create(std::min(connections * kEntriesPerConnection, shm::kMaxEntries));
  if (!writer) return std::unexpected(writer.error());
  return std::unique_ptr<Clients>(new Clients(loop, roster, std::move(*writer)));
}

void Clients::worker_ready(const shm::WorkerRef& worker) {
  generations_[worker.slot] = worker.generation;
  settle(writer_.worker_started(worker));
}

void Clients::worker_gone(const shm::WorkerRef& worker) {
  std::erase_if(connections_, [&](const auto& entry) {
    if (entry.first.first != worker.slot) return false;
    by_client_.erase({entry.second.guid, entry.first});
    release(entry.second.peer);
    return true;
  });
  settle(writer_.worker_gone(worker));
}

shm::WorkerRef Clients::current(const Key& key) const {
  const auto generation = generations_.find(key.first);
  return {.slot = key.first, .generation = generation == generations_.end() ? 0 : generation->second};
}

void Clients::claimed(const shm::WorkerRef& worker, uint64_t connection, const shm::Guid& guid) {
  const Key key{worker.slot, connection};
  if (roster_.addresses(connection, worker.slot) == nullptr || connections_.contains(key)) return;
  Connection& claiming = connections_[key] = {.guid = guid, .peer = {}, .order = ++claims_};
  by_client_.emplace(guid, key);
  claim(key, claiming);
}

/// Claims the connection's client for it, and says what came of it.
void Clients::claim(const Key& key, Connection& connection) {
  const Roster::Addresses* addresses = roster_.addresses(key.second, key.first);
  if (addresses == nullptr) return;
  const shm::Host address = shm::host_of(addresses->peer);
  const std::optional<shm::Entry> before = writer_.find(connection.guid);
  const shm::ClaimAnswer answer = writer_.claim(connection.guid, address, current(key), loop_.now());
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

void Clients::ask_again(const shm::WorkerRef& worker, uint64_t connection) {
  const auto found = connections_.find({worker.slot, connection});
  if (found == connections_.end() || found->second.up || found->second.starter) return;
  claim(found->first, found->second);
}

/// Entries of these clients have changed: what could not be recorded may be now; and of those that wait the
/// first to have claimed gets the claim, the others its outcome.
void Clients::settle(const std::vector<shm::Guid>& guids) {
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
bool Clients::record(const Key& key, Connection& connection) {
  const Roster::Addresses* addresses = roster_.addresses(key.second, key.first);
  if (addresses == nullptr) return false;
  const shm::Report report = writer_.channel_up(connection.guid, current(key), connection.peer,
                                                shm::host_of(addresses->peer), loop_.now());
  if (report != shm::Report::done) return false;
  connection.up = true;
  connection.starter = connection.waiting = false;
  return true;
}

void Clients::channel_up(const shm::WorkerRef& worker, uint64_t connection, uint32_t process) {
  const auto found = connections_.find({worker.slot, connection});
  if (found == connections_.end()) return;
  auto& [key, channel] = *found;
  // Which smbd it is is looked up when somebody asks: it brings a client's channels together by itself.
  shm::Peer peer;
  if (process != 0) {
    const auto known = find_process(process);
    if (!known) {
      return shm::log::write(shm::log::Level::warning, "a client's channels are not brought together: %s",
                             known.error().text().c_str());
    }
    if (!*known) return;  // it has ended, and the channel with it
    peer = **known;
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

void Clients::channel_down(const shm::WorkerRef& worker, uint64_t connection) {
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

void Clients::take_down(const Key& key, Connection& connection) {
  if (std::exchange(connection.up, false)) {
    writer_.channel_down(connection.guid, current(key), connection.peer);
  }
  release(std::exchange(connection.peer, {}));
}

std::optional<shm::Guid> Clients::guid_of(const shm::WorkerRef& worker, uint64_t connection) const {
  const auto found = connections_.find({worker.slot, connection});
  return found == connections_.end() ? std::nullopt : std::optional(found->second.guid);
}

// --- processes ---

/// Where it cannot be watched its entries go with its connections.
void Clients::watch(const shm::Peer& peer) {
  const auto [found, fresh] = peers_.try_emplace(peer);
  Watched& watched = found->second;
  ++watched.channels;
  if (!fresh) return;
  auto process = open_process(pid_t(peer.pid));
  if (!process) return;
  watched.process = std::move(*process);
  auto ended = ReadWatch::make(loop_, watched.process.get(), [this, peer] { peer_ended(peer); });
  if (!ended) return;
  watched.ended = std::make_unique<ReadWatch>(std::move(*ended));
  watched.ended->start();
}

void Clients::release(const shm::Peer& peer) {
  const auto found = peers_.find(peer);
  if (found != peers_.end() && --found->second.channels == 0) peers_.erase(found);
}

/// Its entries go; its connections end as their workers see them end.
void Clients::peer_ended(shm::Peer peer) {
  for (auto& [key, connection] : connections_) {
    if (connection.peer != peer) continue;
    connection.up = false;
    connection.peer = {};
  }
  peers_.erase(peer);
  settle(writer_.peer_gone(peer));
}

std::vector<shm::Entry> Clients::list() const {
  std::vector<shm::Entry> entries;
  if (const auto reader = shm::RegistryReader::open(writer_.fd())) {
    reader->for_each([&](const shm::Entry& entry) { entries.push_back(entry); });
  }
  std::ranges::sort(entries, {}, &shm::Entry::guid);
  return entries;
}

std::string Clients::totals() const {
  return "clients=" + std::to_string(writer_.size()) + " addresses_learned=" + std::to_string(learned_);
}

}  // namespace smbdirect::daemon
