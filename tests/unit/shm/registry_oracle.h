// SPDX-License-Identifier: MIT
// The registry's rules once more, over ordinary maps and written from the rules rather than from the code:
// what randomised tests compare the registry with. One test owns it.
#pragma once

#include <algorithm>
#include <map>
#include <set>

#include "registry_support.h"

namespace smbdirect::tests {

class RegistryOracle {
 public:
  struct Client {
    std::optional<shm::WorkerRef> starter;  // STARTING, if there is one
    shm::Peer peer;
    std::map<uint32_t, uint32_t> channels;  // slot -> number
  };

  void started(const shm::WorkerRef& worker) {
    drop(worker.slot);
    generations_[worker.slot] = worker.generation;
  }
  void gone(const shm::WorkerRef& worker) {
    if (!current(worker)) return;
    drop(worker.slot);
    generations_.erase(worker.slot);
  }
  shm::Claim claim(const shm::Guid& guid, const shm::WorkerRef& worker) {
    if (!current(worker)) return shm::Claim::stale;
    if (guid == shm::Guid{}) return shm::Claim::not_claimable;
    if (const auto client = clients_.find(guid); client != clients_.end()) {
      return client->second.starter ? shm::Claim::wait : shm::Claim::owner;
    }
    clients_[guid] = {worker, {}, {}};
    return shm::Claim::granted;
  }
  shm::Report failed(const shm::Guid& guid, const shm::WorkerRef& worker) {
    if (!current(worker)) return shm::Report::stale;
    const auto client = clients_.find(guid);
    if (client == clients_.end() || client->second.starter != worker) return shm::Report::unknown;
    clients_.erase(client);
    return shm::Report::done;
  }
  shm::Report up(const shm::Guid& guid, const shm::WorkerRef& worker, const shm::Peer& peer) {
    if (!current(worker)) return shm::Report::stale;
    Client& client = clients_[guid];
    if (client.peer.known() && peer.known() && client.peer != peer) return shm::Report::other_owner;
    client.starter.reset();
    if (peer.known()) client.peer = peer;
    ++client.channels[worker.slot];
    return shm::Report::done;
  }
  shm::Report down(const shm::Guid& guid, const shm::WorkerRef& worker, const shm::Peer& peer) {
    if (!current(worker)) return shm::Report::stale;
    const auto client = clients_.find(guid);
    if (client == clients_.end() || !client->second.channels.contains(worker.slot))
      return shm::Report::unknown;
    if (client->second.peer.known() && peer.known() && client->second.peer != peer) {
      return shm::Report::other_owner;
    }
    if (--client->second.channels[worker.slot] == 0) client->second.channels.erase(worker.slot);
    if (client->second.channels.empty()) clients_.erase(client);
    return shm::Report::done;
  }
  void peer_gone(const shm::Peer& peer) {
    std::erase_if(clients_, [&](const auto& row) { return row.second.peer == peer; });
  }

  /// Does the registry say the same?
  [[nodiscard]] bool agrees(const Contents& contents) const {
    return std::ranges::equal(contents, clients_, [](const auto& left, const auto& right) {
      const shm::Entry& entry = left.second;
      const Client& client = right.second;
      if (left.first != right.first || entry.peer != client.peer) return false;
      if (client.starter) return entry.state == shm::EntryState::starting && entry.starter == *client.starter;
      std::map<uint32_t, uint32_t> channels;
      for (uint32_t slot = 0; slot < shm::kWorkerSlots; ++slot) {
        if (entry.has_worker(slot)) channels[slot] = entry.slots[slot].channels;
      }
      return entry.state == shm::EntryState::live && channels == client.channels;
    });
  }

 private:
  [[nodiscard]] bool current(const shm::WorkerRef& worker) const {
    const auto at = generations_.find(worker.slot);
    return at != generations_.end() && at->second == worker.generation;
  }
  void drop(uint32_t slot) {
    for (auto at = clients_.begin(); at != clients_.end();) {
      Client& client = at->second;
      client.channels.erase(slot);
      const bool ends = client.starter ? client.starter->slot == slot : client.channels.empty();
      at = ends ? clients_.erase(at) : std::next(at);
    }
  }

  std::map<shm::Guid, Client> clients_;
  std::map<uint32_t, uint32_t> generations_;
};

}  // namespace smbdirect::tests
