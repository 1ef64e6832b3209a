// SPDX-License-Identifier: MIT
// Connections that have arrived and that no worker has yet. Each is held here, with its socket or request,
// until a worker has it or all have refused it; one that is dropped earlier is closed. Bounded by
// kMaxPending, so few that a busy worker can take them within the time of an offer: the listeners pause while
// this is full, and clients wait in the kernel's queue. Pure (time is a parameter); owned by the supervisor.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "daemon/accept/incoming.h"
#include "daemon/contract/contract.h"
#include "shm/base/connection_id.h"
#include "shm/base/socket_address.h"

namespace smbdirect::daemon {

struct Offer {
  shm::ConnectionId connection{};
  std::unique_ptr<Incoming> incoming;
  sockaddr_storage peer{};
  sockaddr_storage local{};

  std::optional<size_t> slot;  // offered to; nothing: waits for a worker to become ready
  uint64_t deadline_ms = 0;    // of the offer, or of the wait
  std::vector<bool> tried;     // slots that had their chance

  [[nodiscard]] shm::Host client() const { return shm::host_of(peer); }
};

class Offers {
 public:
  static constexpr size_t kMaxPending = 64;

  explicit Offers(size_t slots) : slots_(slots) {}

  /// The number that the next connection gets; before the first.
  void number_from(uint64_t first) { before_first_ = last_number_ = first - 1; }
  /// No connection that came here has it, or will.
  [[nodiscard]] bool is_others(shm::ConnectionId connection) const {
    return std::to_underlying(connection) <= before_first_;
  }
  /// The new offer waits for no one yet: assign or wait follows.
  Offer& add(std::unique_ptr<Incoming> incoming, const sockaddr_storage& peer, const sockaddr_storage& local);
  [[nodiscard]] bool full() const { return offers_.size() >= kMaxPending; }
  [[nodiscard]] size_t size() const { return offers_.size(); }
  /// Those that wait, with no slot: the connection table counts the others.
  [[nodiscard]] size_t waiting() const;

  static void assign(Offer& offer, size_t slot, uint64_t now_ms);
  static void wait(Offer& offer, uint64_t now_ms);
  /// The slot had its chance: by its refusal, its silence or a failure to reach it.
  static void give_up_on(Offer& offer);

  /// The offer, if it is with that slot now: a late TAKE finds nothing.
  [[nodiscard]] Offer* find(shm::ConnectionId connection, size_t slot);
  [[nodiscard]] Offer* find(shm::ConnectionId connection);
  /// Some offer is with that slot now.
  [[nodiscard]] bool any_at(size_t slot) const;
  void drop(shm::ConnectionId connection) { offers_.erase(connection); }
  void clear() { offers_.clear(); }

  /// A worker's process is gone: no worker has its offers now, and its successor may be asked again.
  [[nodiscard]] std::vector<shm::ConnectionId> forget_slot(size_t slot);
  [[nodiscard]] std::vector<shm::ConnectionId> all() const;
  [[nodiscard]] std::vector<shm::ConnectionId> all_waiting() const;
  /// Offers and waits whose time is over, oldest first.
  [[nodiscard]] std::vector<shm::ConnectionId> overdue(uint64_t now_ms) const;
  [[nodiscard]] std::optional<uint64_t> next_deadline() const;

 private:
  size_t slots_;
  uint64_t before_first_ = 0;
  uint64_t last_number_ = 0;
  std::map<shm::ConnectionId, Offer> offers_;  // so by age
};

}  // namespace smbdirect::daemon
