// SPDX-License-Identifier: MIT
// Which connections each worker has, and which worker gets the next one. Counts only: processes and
// descriptors are elsewhere. Pure; owned by the supervisor, which lives and dies with it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

#include "daemon/config/pool_config.h"
#include "shm/base/connection_id.h"
#include "shm/base/socket_address.h"

namespace smbdirect::daemon {

class ConnectionTable {
 public:
  /// ipv6_prefix_length: of the network that an IPv6 client is (shm::network_of).
  explicit ConnectionTable(size_t slots, unsigned ipv6_prefix_length = 128)
      : slots_(slots), prefix_length_(ipv6_prefix_length) {}

  /// A connection is with a worker from its offer on. One that is there already is not added again.
  void add(shm::ConnectionId connection, size_t slot, const sockaddr_storage& peer,
           const sockaddr_storage& local);
  /// False when there is no such connection with that slot (a worker's word is not trusted).
  bool remove(shm::ConnectionId connection, size_t slot);

  [[nodiscard]] size_t total() const { return connections_.size(); }
  [[nodiscard]] size_t of_slot(size_t slot) const { return slots_.at(slot).connections; }
  [[nodiscard]] size_t of_slot_and_client(size_t slot, const shm::Host& client) const;
  struct Addresses {
    sockaddr_storage peer{};
    sockaddr_storage local{};
  };
  /// The slot that has a connection.
  [[nodiscard]] std::optional<size_t> slot_of(shm::ConnectionId connection) const;
  /// Of a connection, if that slot has it.
  [[nodiscard]] const Addresses* addresses(shm::ConnectionId connection, size_t slot) const;
  /// The connections for which it is so, ascending. is(id, slot, addresses).
  template <class Is>
  [[nodiscard]] std::vector<shm::ConnectionId> find_if(Is is) const {
    std::vector<shm::ConnectionId> found;
    for (const auto& [id, connection] : connections_) {
      if (is(id, connection.slot, connection.addresses)) found.push_back(id);
    }
    std::ranges::sort(found);
    return found;
  }
  /// The numbers of a slot's connections, ascending.
  [[nodiscard]] std::vector<shm::ConnectionId> connections_of(size_t slot) const;

  /// Among the eligible slots: for Affinity::client one that is known to serve this client (bit n of `known`:
  /// slot n), also from other addresses; of those, the one with the most connections of this address, if any
  /// has one, else with the most of its IPv6 network; then, and for Affinity::spread at once, the one with
  /// the fewest connections; among equals the next in turn. Nothing when none is eligible. A network may be a
  /// whole LAN: what is known of it counts only for slots that do not have many more connections than others.
  [[nodiscard]] std::optional<size_t> choose(const shm::Host& client, Affinity affinity,
                                             const std::vector<bool>& eligible, uint64_t known = 0);

 private:
  struct Slot {
    size_t connections = 0;
    std::map<shm::Host, size_t> clients;
    std::map<shm::Host, size_t> networks;
  };
  struct Connection {
    size_t slot{};
    shm::Host client{};
    Addresses addresses;
  };
  /// What a slot may have more than the one with the fewest, and still get a network's next connection.
  static constexpr size_t kSlack = 8;

  std::vector<Slot> slots_;
  unsigned prefix_length_;
  std::unordered_map<shm::ConnectionId, Connection> connections_;
  size_t turn_ = 0;  // where the next search among equals begins
};

}  // namespace smbdirect::daemon
