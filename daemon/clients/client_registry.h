// SPDX-License-Identifier: MIT
// Which client (by the ClientGuid of its SMB2 NEGOTIATE) is served by which workers, and at what addresses it
// was seen: the GUID registry (shm/registry_writer.h), changed by the workers' messages. Says where a
// client's next connection should go. Owned by the supervisor; its loop's thread. When the supervisor dies,
// workers keep their connections, and the next supervisor begins with an empty registry.
//
// With native peers each claim is answered; claims that wait for a client's first connection are answered
// once that is decided. The owner of an entry is the process that the kernel named to the worker; its entries
// are removed when it ends.
//
// Workers are not trusted: a message counts only for a connection that the worker has, and only once. A
// connection's claim and its channel end with the connection, or with its worker.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "daemon/contract/contract.h"
#include "daemon/prefork/connection_table.h"
#include "shm/base/connection_id.h"
#include "shm/base/guid.h"
#include "shm/base/log.h"
#include "shm/loop/borrowed_watch.h"
#include "shm/loop/loop.h"
#include "shm/registry_writer.h"
#include "shm/totals.h"

namespace smbdirect::daemon {

class ClientRegistry {
 public:
  /// The registry's memory. connections: the most there can be at one time.
  [[nodiscard]] static shm::Result<shm::RegistryWriter> make_registry(size_t connections);
  ClientRegistry(shm::Loop& loop, const ConnectionTable& table, shm::RegistryWriter writer,
                 unsigned ipv6_prefix_length = 128)
      : loop_(loop), table_(table), prefix_length_(ipv6_prefix_length), writer_(std::move(writer)) {}

  void worker_ready(const shm::WorkerRef& worker);
  void worker_gone(const shm::WorkerRef& worker);
  /// CLAIM, CHANNEL_UP, and CHANNEL_DOWN or CLOSED, the last before the connection table forgets the
  /// connection.
  void claimed(const shm::WorkerRef& worker, shm::ConnectionId connection, const shm::Guid& guid);
  /// process: of the native peer that serves the connection, now or from now on; 0: smbd.
  void channel_up(const shm::WorkerRef& worker, shm::ConnectionId connection, uint32_t process);
  void channel_down(const shm::WorkerRef& worker, shm::ConnectionId connection);

  /// Native peers: what claims are answered with.
  using Answer = std::function<void(size_t slot, shm::ConnectionId connection, ClaimOutcome outcome)>;
  void answer_with(Answer answer) { answer_ = std::move(answer); }
  /// Why a process is not the server's; null: it is. Without this every one is.
  using Object = std::function<const char*(pid_t process)>;
  /// How long a client's first connection may take to have a process before others no longer wait for it; 0:
  /// as long as it likes.
  void end_starts_after(uint64_t milliseconds) { start_ms_ = milliseconds; }
  void object_with(Object object) { object_ = std::move(object); }
  /// The workers that serve a client by one process, oldest connection first: a later worker may have claimed
  /// the client falsely.
  [[nodiscard]] std::vector<size_t> workers_of(const shm::Guid& guid, const shm::Peer& peer) const;
  /// The process that a connection was sent to has gone: claims again.
  void ask_again(const shm::WorkerRef& worker, shm::ConnectionId connection);
  [[nodiscard]] std::optional<shm::Guid> guid_of(const shm::WorkerRef& worker,
                                                 shm::ConnectionId connection) const;
  [[nodiscard]] std::optional<shm::Entry> find(const shm::Guid& guid) const { return writer_.find(guid); }
  /// To be passed to workers.
  [[nodiscard]] int registry_fd() const { return writer_.fd(); }

  /// The workers that serve the client of this address: bit n is slot n.
  [[nodiscard]] uint64_t workers_at(const shm::Host& client) const { return writer_.workers_at(client); }
  /// Every client, in the order of their GUIDs.
  [[nodiscard]] std::vector<shm::Entry> list() const;
  /// "clients=3 addresses_learned=1".
  [[nodiscard]] shm::Totals totals() const;

 private:
  struct Connection {
    shm::Guid guid{};
    bool starter = false;  // granted the claim, its outcome not known
    bool waiting = false;  // for another's claim
    bool up = false;       // recorded
    // The process that serves it, where that is known. Two may serve one client: what the other has is
    // recorded once the entry is free for it.
    shm::Peer peer;
    uint64_t order = 0;  // of the claims
    uint64_t claimed_ms = 0;
  };
  using Key = std::pair<uint32_t, shm::ConnectionId>;  // slot, connection

  void claim(const Key& key, Connection& connection);
  [[nodiscard]] bool end_old_start(const shm::Guid& guid);
  void settle(const std::vector<shm::Guid>& guids);
  [[nodiscard]] bool record(const Key& key, Connection& connection);
  void not_believed(const Key& key, Connection& connection, uint32_t process, const std::string& why);
  void take_down(const Key& key, Connection& connection);
  void release(const shm::Peer& peer);
  void peer_ended(shm::Peer peer);
  void watch(const shm::Peer& peer);
  [[nodiscard]] shm::Host client_of(const sockaddr_storage& address) const;
  [[nodiscard]] shm::WorkerRef current(const Key& key) const;

  /// A process that owns entries.
  struct Watched {
    size_t channels = 0;
    shm::UniqueFd process;
    std::unique_ptr<shm::ReadWatch> ended;  // after process: gone before it is closed
  };

  shm::Loop& loop_;
  const ConnectionTable& table_;
  unsigned prefix_length_;
  Answer answer_;
  Object object_;
  shm::log::Limited log_;
  shm::RegistryWriter writer_;
  std::map<uint32_t, uint32_t> generations_;  // slot -> its worker's
  std::map<shm::Peer, Watched> peers_;
  std::map<Key, Connection> connections_;          // those that have claimed
  std::set<std::pair<shm::Guid, Key>> by_client_;  // the same, by the client's GUID
  uint64_t start_ms_ = 0;
  uint64_t learned_ = 0;
  uint64_t claims_ = 0;
};

}  // namespace smbdirect::daemon
