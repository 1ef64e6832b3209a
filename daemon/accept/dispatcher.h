// SPDX-License-Identifier: MIT
// A connection's way from accept to a worker: access lists, limits, then OFFER, TAKE, GRANT (contract.h), and
// an offer to the next worker when one does not answer. Reads nothing from any connection. Owned by the
// supervisor; when the supervisor dies, offered connections close and granted ones continue in their workers.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "daemon/accept/listeners.h"
#include "daemon/accept/offers.h"
#include "daemon/accept/places.h"
#include "daemon/config/pool_config.h"
#include "daemon/prefork/connection_table.h"
#include "daemon/prefork/worker_pool.h"
#include "shm/base/connection_id.h"
#include "shm/base/log.h"
#include "shm/loop/loop.h"
#include "shm/token_buckets.h"
#include "shm/totals.h"

namespace smbdirect::daemon {

/// Why a connection was closed without reaching a worker.
enum class Refusal : uint8_t { access, pool_limit, client_limit, client_rate, no_worker, leaving };
inline constexpr size_t kRefusals = 6;

class Dispatcher {
 public:
  /// The workers that serve the client that was seen at an address before: bit n is slot n.
  using WorkersAt = std::function<uint64_t(const shm::Host& client)>;

  Dispatcher(shm::Loop& loop, const PoolConfig& config, WorkerPool& workers, Listeners& listeners,
             WorkersAt workers_at);

  void accepted(std::unique_ptr<Incoming> incoming, const sockaddr_storage& peer,
                const sockaddr_storage& local);
  // TAKE, REFUSE, SESSION_UP, CLOSED.
  void taken(size_t slot, shm::ConnectionId connection);
  void refused(size_t slot, shm::ConnectionId connection);
  void session_up(size_t slot, shm::ConnectionId connection);
  void closed(size_t slot, shm::ConnectionId connection);
  /// Ends a connection that a worker has; its CLOSED follows.
  void end(shm::ConnectionId connection, EndReason reason);
  /// The connections to local addresses of this kind: those that no worker has are closed with this, the
  /// others' CLOSED follow.
  struct Ending {
    size_t offers = 0;                       // that were closed
    std::vector<shm::ConnectionId> granted;  // ascending
  };
  Ending end_at(const std::function<bool(const shm::Host& local)>& is, const std::string& why);
  /// Local addresses to which new connections are refused, until they are taken out.
  [[nodiscard]] std::set<shm::Host>& leaving() { return leaving_; }
  [[nodiscard]] const std::set<shm::Host>& leaving() const { return leaving_; }
  void worker_ready();
  /// Connections are numbered from here on; before the first.
  void number_from(uint64_t first) { offers_.number_from(first); }
  /// KEPT, of an adopted worker. False: it is not believed, for there is one of that number, or the worker
  /// has too many.
  [[nodiscard]] bool kept(size_t slot, shm::ConnectionId connection,
                          const ConnectionTable::Addresses& addresses);
  /// Called whenever no offer is left, whatever there was before.
  void when_empty(std::function<void()> tell) { empty_ = std::move(tell); }
  [[nodiscard]] bool empty() const { return offers_.size() == 0; }
  /// Workers are to retire: those without an offer are told now, the others when they have none.
  void finish_retiring();
  /// The configuration that it was made with has changed.
  void configuration_changed(const PoolConfig& before);
  /// Offers it held go elsewhere. Returns how many granted connections went with it.
  size_t worker_gone(size_t slot);
  /// Closes what has not been granted; nothing more may be accepted.
  void close();

  [[nodiscard]] const ConnectionTable& connection_table() const { return table_; }
  [[nodiscard]] size_t connections() const { return table_.total(); }
  [[nodiscard]] const Places& places() const { return places_; }
  [[nodiscard]] size_t connections_of(size_t slot) const { return table_.of_slot(slot); }
  /// Counts since the start, and what is pending.
  [[nodiscard]] shm::Totals totals() const;

 private:
  void dispatch(Offer& offer);
  void make_room(shm::ConnectionId connection);
  void turn_away(shm::ConnectionId connection);
  [[nodiscard]] bool turned_away(Offer& offer, bool at_once);
  void retry(shm::ConnectionId connection);
  void hand_over(Offer& offer);
  void handed_over(const Offer& offer, size_t slot);
  void deadlines();
  void count_affinity(uint64_t known, size_t slot);
  void refuse(Refusal refusal, const sockaddr_storage& peer, const std::string& why);
  void settle();

  shm::Loop& loop_;
  const PoolConfig& config_;
  WorkerPool& workers_;
  Listeners& listeners_;
  WorkersAt workers_at_;
  std::function<void()> empty_;
  ConnectionTable table_;
  Offers offers_;
  Places places_;
  std::set<shm::Host> leaving_;
  TokenBuckets rate_;
  shm::Timer deadline_timer_;
  shm::log::Limited refusal_log_;
  shm::log::Limited slow_log_;
  shm::log::Limited room_log_;
  shm::log::Limited grant_log_;
  uint64_t accepted_ = 0;
  uint64_t granted_ = 0;
  std::array<uint64_t, kRefusals> refused_{};
  uint64_t made_room_ = 0;        // connections without a session that went for others
  uint64_t affinity_hits_ = 0;    // offered to a worker that serves the client
  uint64_t affinity_misses_ = 0;  // to another, although one does
};

}  // namespace smbdirect::daemon
