// SPDX-License-Identifier: MIT
#include "daemon/prefork/connection_table.h"

#include <algorithm>
#include <limits>
#include <tuple>

namespace smbdirect::daemon {

void ConnectionTable::add(shm::ConnectionId connection, size_t slot, const sockaddr_storage& peer,
                          const sockaddr_storage& local) {
  const shm::Host client = shm::host_of(peer);
  if (!connections_.try_emplace(connection, Connection{slot, client, {peer, local}}).second) return;
  ++slots_.at(slot).connections;
  ++slots_[slot].clients[client];
  ++slots_[slot].networks[shm::network_of(client, prefix_length_)];
}

bool ConnectionTable::remove(shm::ConnectionId connection, size_t slot) {
  const auto found = connections_.find(connection);
  if (found == connections_.end() || found->second.slot != slot) return false;
  Slot& worker = slots_[slot];
  --worker.connections;
  const auto less = [](std::map<shm::Host, size_t>& counts, const shm::Host& host) {
    const auto one = counts.find(host);
    if (--one->second == 0) counts.erase(one);
  };
  less(worker.clients, found->second.client);
  less(worker.networks, shm::network_of(found->second.client, prefix_length_));
  connections_.erase(found);
  return true;
}

const ConnectionTable::Addresses* ConnectionTable::addresses(shm::ConnectionId connection,
                                                             size_t slot) const {
  const auto found = connections_.find(connection);
  return found == connections_.end() || found->second.slot != slot ? nullptr : &found->second.addresses;
}

std::optional<size_t> ConnectionTable::slot_of(shm::ConnectionId connection) const {
  const auto found = connections_.find(connection);
  return found == connections_.end() ? std::nullopt : std::optional(found->second.slot);
}

size_t ConnectionTable::of_slot_and_client(size_t slot, const shm::Host& client) const {
  const auto found = slots_.at(slot).clients.find(client);
  return found == slots_[slot].clients.end() ? 0 : found->second;
}

std::vector<shm::ConnectionId> ConnectionTable::connections_of(size_t slot) const {
  return find_if([slot](shm::ConnectionId, size_t at, const Addresses&) { return at == slot; });
}

std::optional<size_t> ConnectionTable::choose(const shm::Host& client, Affinity affinity,
                                              const std::vector<bool>& eligible, uint64_t known) {
  if (affinity == Affinity::spread) known = 0;
  const shm::Host network = shm::network_of(client, prefix_length_);
  size_t fewest = std::numeric_limits<size_t>::max();
  for (size_t slot = 0; slot < slots_.size(); ++slot) {
    if (eligible.at(slot)) fewest = std::min(fewest, slots_[slot].connections);
  }
  constexpr size_t kMax = std::numeric_limits<size_t>::max();
  std::optional<size_t> best;
  std::tuple<bool, size_t, size_t, size_t> best_rank;
  for (size_t i = 0; i < slots_.size(); ++i) {
    const size_t slot = (turn_ + i) % slots_.size();
    if (!eligible.at(slot)) continue;
    const size_t here = affinity == Affinity::client ? of_slot_and_client(slot, client) : 0;
    // What is known of an IPv4 address, or of one that has a connection there, is known of this client.
    const bool sure = here > 0 || network == client;
    const bool balanced = slots_[slot].connections <= 2 * fewest + kSlack;
    const auto of_network = slots_[slot].networks.find(network);
    const bool steered =
        affinity == Affinity::client && of_network != slots_[slot].networks.end() && balanced;
    const std::tuple rank{(known >> slot & 1) == 0 || !(sure || balanced), kMax - here,
                          kMax - (steered ? of_network->second : 0), slots_[slot].connections};
    if (!best || rank < best_rank) std::tie(best, best_rank) = std::pair(slot, rank);
  }
  if (best) turn_ = (*best + 1) % slots_.size();
  return best;
}

}  // namespace smbdirect::daemon
