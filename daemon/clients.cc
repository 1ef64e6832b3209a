// SPDX-License-Identifier: MIT
#include "daemon/clients.h"

#include <algorithm>

#include "shm/registry_reader.h"

namespace smbdirect::daemon {
namespace {

/// Room for twice the clients there can be: searches stay short.
constexpr size_t kEntriesPerConnection = 2;

}  // namespace

shm::Result<std::unique_ptr<Clients>> Clients::create(Loop& loop, size_t connections, const Roster& roster) {
  auto writer = shm::RegistryWriter::create(std::min(connections * kEntriesPerConnection, shm::kMaxEntries));
  if (!writer) return std::unexpected(writer.error());
  return std::unique_ptr<Clients>(new Clients(loop, roster, std::move(*writer)));
}

void Clients::worker_ready(const shm::WorkerRef& worker) { writer_.worker_started(worker); }

void Clients::worker_gone(const shm::WorkerRef& worker) {
  std::erase_if(connections_, [&](const auto& entry) { return entry.first.first == worker.slot; });
  writer_.worker_gone(worker);
}

void Clients::claimed(const shm::WorkerRef& worker, uint64_t connection, const shm::Guid& guid) {
  const Roster::Addresses* addresses = roster_.addresses(connection, worker.slot);
  if (addresses == nullptr || connections_.contains({worker.slot, connection})) return;
  const shm::Host address = shm::host_of(addresses->peer);
  const std::optional<shm::Entry> before = writer_.find(guid);
  const shm::ClaimAnswer answer = writer_.claim(guid, address, worker, loop_.now());
  switch (answer.outcome) {
    case shm::Claim::granted:
    case shm::Claim::wait:
    case shm::Claim::owner:
      break;
    case shm::Claim::not_claimable:
    case shm::Claim::full:
    case shm::Claim::stale:
      return;  // it is served like any other, and its next connection goes by its address alone
  }
  if (before && std::ranges::find(before->addresses, address) == before->addresses.end()) ++learned_;
  connections_[{worker.slot, connection}] = {.guid = guid, .starter = answer.outcome == shm::Claim::granted};
}

void Clients::channel_up(const shm::WorkerRef& worker, uint64_t connection) {
  const auto found = connections_.find({worker.slot, connection});
  const Roster::Addresses* addresses = roster_.addresses(connection, worker.slot);
  if (found == connections_.end() || addresses == nullptr || found->second.up) return;
  // smbd itself brings a client's channels together; which process it is, is looked up when somebody asks.
  const shm::Report report =
      writer_.channel_up(found->second.guid, worker, shm::Peer{}, shm::host_of(addresses->peer), loop_.now());
  if (report != shm::Report::done) return;
  found->second.up = true;
  found->second.starter = false;
}

void Clients::closed(const shm::WorkerRef& worker, uint64_t connection) {
  const auto found = connections_.find({worker.slot, connection});
  if (found == connections_.end()) return;
  if (found->second.up) {
    writer_.channel_down(found->second.guid, worker);
  } else if (found->second.starter) {
    writer_.claim_failed(found->second.guid, worker);
  }
  connections_.erase(found);
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
