// SPDX-License-Identifier: MIT
// Which connections may have a place in the pool: counts all connections, those of each client, and those
// without a session. The latter have fewer places, of their own. When these are full, a new connection
// replaces the oldest connection of the client that holds the most of them: a client that fills the places
// pushes out its own connections, and other clients have time to log in. If no client holds many more than
// the others, a new connection is refused at first, because honest clients may arrive all at once and be
// about to log in; this lasts for kPatienceMs at most.
//
// A client is an IPv4 address or an IPv6 network (shm::network_of). Pure; owned by the dispatcher, in the
// supervisor.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <tuple>

#include "shm/base/connection_id.h"
#include "shm/base/socket_address.h"

namespace smbdirect::daemon {

class Places {
 public:
  /// without_session: at most connections.
  Places(size_t connections, size_t without_session)
      : connections_(connections), without_session_(without_session) {}

  /// Fewer than there are: those beyond go as others come.
  void set_without_session(size_t most) { without_session_ = most; }

  /// Numbers ascend with age.
  void add(shm::ConnectionId connection, const shm::Host& client, uint64_t now_ms);
  void remove(shm::ConnectionId connection);
  /// The server has let it in, which ends its ending too. False: it is not here, or was let in before.
  bool session_up(shm::ConnectionId connection);
  /// It is to make room, and holds no place from now on; until remove().
  void ending(shm::ConnectionId connection);

  [[nodiscard]] size_t total() const { return everyone_.size() - ending_; }
  [[nodiscard]] size_t without_session() const { return waiting_; }
  [[nodiscard]] size_t of_client(const shm::Host& client) const;

  struct Room {
    bool none = false;                      // it is turned away
    std::optional<shm::ConnectionId> goes;  // the connection that must end first
  };
  /// For this client's next connection.
  [[nodiscard]] Room room_for(const shm::Host& client, uint64_t now_ms);

 private:
  enum class Standing : uint8_t { without_session, session, ending };
  struct Connection {
    shm::Host client{};
    Standing standing = Standing::without_session;
    uint64_t since_ms = 0;
  };
  struct Client {
    size_t connections = 0;
    std::set<shm::ConnectionId> without_session;  // oldest first
  };
  /// Those with most of these places first, then the one whose oldest is oldest.
  using Rank = std::tuple<size_t, shm::ConnectionId, shm::Host>;

  [[nodiscard]] static std::optional<Rank> rank_of(const shm::Host& host, const Client& client);
  void rerank(const shm::Host& host, const std::optional<Rank>& before, const Client& client);
  void no_longer_waits(shm::ConnectionId connection, const shm::Host& host);
  void leaves(const shm::Host& host);

  static constexpr size_t kMostEnding = 256;  // besides, for pools with few places
  static constexpr size_t kFew = 8;           // an honest client logs in with some connections at once
  static constexpr uint64_t kPatienceMs = 1'000;
  static constexpr uint64_t kForgetMs = 5'000;

  size_t connections_;
  size_t without_session_;
  std::map<shm::ConnectionId, Connection> everyone_;
  std::map<shm::Host, Client> clients_;
  std::set<Rank> ranks_;
  size_t waiting_ = 0;  // for a session
  size_t ending_ = 0;
  // Of newcomers that were refused although there were connections without a session.
  uint64_t first_refused_ms_ = 0;
  std::optional<uint64_t> last_refused_ms_;
};

}  // namespace smbdirect::daemon
