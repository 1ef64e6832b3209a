// SPDX-License-Identifier: MIT
// Which client (by the ClientGuid of its SMB2 NEGOTIATE) is served by which workers, and at what addresses it
// was seen: the GUID registry (shm/registry_writer.h) as the workers' words change it. Says where a client's
// next connection should go. Owned by the supervisor; its loop's thread. When that dies, workers go on with
// what they have, and the next supervisor begins with none.
//
// Workers are not trusted: a word counts for a connection that the worker has, and once. A connection's claim
// and its channel end with the connection, or with its worker.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "daemon/roster.h"
#include "daemon/uv_handles.h"
#include "shm/guid.h"
#include "shm/registry_writer.h"

namespace smbdirect::daemon {

class Clients {
 public:
  /// connections: the most there can be at one time.
  [[nodiscard]] static shm::Result<std::unique_ptr<Clients>> create(Loop& loop, size_t connections,
                                                                    const Roster& roster);

  void worker_ready(const shm::WorkerRef& worker);
  void worker_gone(const shm::WorkerRef& worker);
  /// CLAIM, CHANNEL_UP and CLOSED, the last before the roster forgets the connection.
  void claimed(const shm::WorkerRef& worker, uint64_t connection, const shm::Guid& guid);
  void channel_up(const shm::WorkerRef& worker, uint64_t connection);
  void closed(const shm::WorkerRef& worker, uint64_t connection);

  /// The workers that serve the client of this address: bit n is slot n.
  [[nodiscard]] uint64_t workers_at(const shm::Host& client) const { return writer_.workers_at(client); }
  /// Every client, in the order of their GUIDs.
  [[nodiscard]] std::vector<shm::Entry> list() const;
  /// "clients=3 addresses_learned=1".
  [[nodiscard]] std::string totals() const;

 private:
  struct Connection {
    shm::Guid guid{};
    bool starter = false;  // granted the claim, its outcome not known
    bool up = false;
  };
  using Key = std::pair<uint32_t, uint64_t>;  // slot, connection

  Clients(Loop& loop, const Roster& roster, shm::RegistryWriter writer)
      : loop_(loop), roster_(roster), writer_(std::move(writer)) {}

  Loop& loop_;
  const Roster& roster_;
  shm::RegistryWriter writer_;
  std::map<Key, Connection> connections_;  // those that have claimed
  uint64_t learned_ = 0;
};

}  // namespace smbdirect::daemon
