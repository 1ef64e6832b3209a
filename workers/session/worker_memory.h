// SPDX-License-Identifier: MIT
// How clients share a worker's memory: what is held and what is reserved, per client and in total, and what
// happens when memory is short. Owned by the worker, outlives its sessions; one thread. Nothing of it is
// shared between processes.
//
// No client can take it all: each may have a quarter of what is free (so one alone may have a fifth of the
// total, and ten that take all they can leave a tenth). When memory is short nevertheless, the connection
// whose memory has not moved for the longest time is ended, with a reason, so that waiting connections can
// continue.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <sys/socket.h>
#include <vector>

#include <uv.h>

#include "shm/base/socket_address.h"
#include "shm/loop/loop.h"
#include "workers/memory/slab.h"

namespace smbdirect::workers {

/// A connection that may have to give up its memory.
class MemoryHolder {
 public:
  /// Bytes that would be free if it ended, beside what every connection costs.
  [[nodiscard]] virtual uint64_t reclaimable() const = 0;
  /// Since when (loop's time, ms) it has moved nothing worth mentioning of what it holds; UINT64_MAX: what it
  /// holds is not for it to move. Asked only while others wait.
  [[nodiscard]] virtual uint64_t stuck_since() = 0;
  /// It waits for memory that others have.
  [[nodiscard]] virtual bool waits_for_others() const = 0;
  /// It has waited long, and no connection can be ended for it: it may continue, once, regardless of the
  /// limits.
  virtual void let_through() = 0;
  virtual void end_for_others(std::string why) = 0;

 protected:
  ~MemoryHolder() = default;
};

class WorkerMemory {
 public:
  /// What a connection may always have, each way, as long as all such floors together keep to kFloors.
  static constexpr uint64_t kFloors = 16u << 20;
  /// Before a session is set up: for all of a connection.
  static constexpr uint64_t kBeforeSession = 1u << 20;

  /// What one client's connections hold, and what they may still be sent.
  struct Client {
    explicit Client(WorkerMemory& memory)
        : held(UINT64_MAX, &memory.held_), promised(UINT64_MAX, &memory.promised_) {}
    Budget held;
    Budget promised;
  };

  /// limit: bytes, held and promised together (/limits/buffered_bytes_per_worker). ipv6_prefix_length: of the
  /// network that an IPv6 client is (shm::network_of), as the supervisor counts its connections.
  WorkerMemory(uv_loop_t& loop, uint64_t limit, unsigned ipv6_prefix_length);
  WorkerMemory(const WorkerMemory&) = delete;
  WorkerMemory& operator=(const WorkerMemory&) = delete;

  [[nodiscard]] std::shared_ptr<Client> client(const sockaddr_storage& address);
  void add(MemoryHolder& holder) { holders_.push_back(&holder); }
  void remove(MemoryHolder& holder) { std::erase(holders_, &holder); }
  /// A holder waits for others' memory: they will be looked at.
  void somebody_waits();

  /// Whether bytes more fit for this client now.
  [[nodiscard]] bool fits(const Client& client, uint64_t bytes) const;
  /// Whether connections may have more receives posted than they begin with: those of many that were busy
  /// once would take what requests need.
  [[nodiscard]] bool plenty() const { return held_.used() < limit_ / 4; }
  /// Whether no other client has any memory.
  [[nodiscard]] bool alone(const Client& client) const {
    return client.held.used() == held_.used() && client.promised.used() == promised_.used();
  }
  /// Whether a floor may be taken where fits() says no.
  [[nodiscard]] bool floor_fits(uint64_t bytes) const {
    return held_.used() + bytes <= held_.limit() + kFloors;
  }
  [[nodiscard]] const Budget& held() const { return held_; }

 private:
  /// Admitted replies must find memory when they arrive: slabs are only partly used, and servers also send
  /// unsolicited messages.
  static constexpr uint64_t kAboveLimit = 16u << 20;
  static constexpr uint64_t kShareOfFree = 4;
  static constexpr uint64_t kLookMs = 50;
  static constexpr uint64_t kPatienceMs = 100;  // others' memory mostly comes back by itself
  static constexpr uint64_t kStuckMs = 1'000;   // no less is called stuck

  void look();
  [[nodiscard]] MemoryHolder* most_stuck() const;

  uv_loop_t& loop_;
  uint64_t limit_;
  unsigned ipv6_prefix_length_;
  Budget held_;
  Budget promised_;
  std::map<shm::Host, std::weak_ptr<Client>> clients_;
  std::vector<MemoryHolder*> holders_;
  shm::Timer look_timer_;
  uint64_t short_since_ = UINT64_MAX;
};

}  // namespace smbdirect::workers
