// SPDX-License-Identifier: MIT
#include "daemon/accept/places.h"

#include <limits>
#include <utility>

namespace smbdirect::daemon {

std::optional<Places::Rank> Places::rank_of(const shm::Host& host, const Client& client) {
  if (client.without_session.empty()) return std::nullopt;
  return Rank{std::numeric_limits<size_t>::max() - client.without_session.size(),
              *client.without_session.begin(), host};
}

void Places::rerank(const shm::Host& host, const std::optional<Rank>& before, const Client& client) {
  if (before) ranks_.erase(*before);
  if (const auto now = rank_of(host, client)) ranks_.insert(*now);
}

void Places::add(shm::ConnectionId connection, const shm::Host& client, uint64_t now_ms) {
  if (!everyone_.try_emplace(connection, Connection{.client = client, .since_ms = now_ms}).second) return;
  Client& one = clients_[client];
  const auto before = rank_of(client, one);
  ++one.connections;
  one.without_session.insert(connection);
  ++waiting_;
  rerank(client, before, one);
}

void Places::no_longer_waits(shm::ConnectionId connection, const shm::Host& host) {
  Client& one = clients_.at(host);
  const auto before = rank_of(host, one);
  one.without_session.erase(connection);
  --waiting_;
  rerank(host, before, one);
}

void Places::leaves(const shm::Host& host) {
  const auto found = clients_.find(host);
  if (--found->second.connections == 0) clients_.erase(found);
}

void Places::remove(shm::ConnectionId connection) {
  const auto found = everyone_.find(connection);
  if (found == everyone_.end()) return;
  const shm::Host host = found->second.client;
  const Standing standing = found->second.standing;
  everyone_.erase(found);
  if (standing == Standing::ending) {
    --ending_;
    return;
  }
  if (standing == Standing::without_session) no_longer_waits(connection, host);
  leaves(host);
}

bool Places::session_up(shm::ConnectionId connection) {
  const auto found = everyone_.find(connection);
  if (found == everyone_.end() || found->second.standing == Standing::session) return false;
  if (std::exchange(found->second.standing, Standing::session) == Standing::without_session) {
    no_longer_waits(connection, found->second.client);
  } else {
    // SESSION_UP crossed our END: the worker ignores the END, because the connection has a session.
    --ending_;
    ++clients_[found->second.client].connections;
  }
  return true;
}

void Places::ending(shm::ConnectionId connection) {
  const auto found = everyone_.find(connection);
  if (found == everyone_.end() || found->second.standing != Standing::without_session) return;
  found->second.standing = Standing::ending;
  ++ending_;
  no_longer_waits(connection, found->second.client);
  leaves(found->second.client);
}

size_t Places::of_client(const shm::Host& client) const {
  const auto found = clients_.find(client);
  return found == clients_.end() ? 0 : found->second.connections;
}

Places::Room Places::room_for(const shm::Host& client, uint64_t now_ms) {
  if (ending_ >= without_session_ + kMostEnding) return {.none = true, .goes = {}};
  if (waiting_ < without_session_ && total() < connections_) return {};
  if (ranks_.empty()) return {.none = true, .goes = {}};
  const auto own = clients_.find(client);
  const size_t here = own == clients_.end() ? 0 : own->second.without_session.size();
  const auto& [rank, oldest, host] = *ranks_.begin();
  const size_t most = std::numeric_limits<size_t>::max() - rank;
  // With the new connection this client would be the one with the most.
  const shm::ConnectionId goes = here + 1 > most ? *own->second.without_session.begin() : oldest;
  const bool young = now_ms - everyone_.at(goes).since_ms < kPatienceMs;
  if (most > here + kFew || !young) return {.none = false, .goes = goes};
  if (!last_refused_ms_ || now_ms - *last_refused_ms_ > kForgetMs) first_refused_ms_ = now_ms;
  if (now_ms - first_refused_ms_ >= kPatienceMs) return {.none = false, .goes = goes};
  last_refused_ms_ = now_ms;
  return {.none = true, .goes = {}};
}

}  // namespace smbdirect::daemon
