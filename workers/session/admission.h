// SPDX-License-Identifier: MIT
// Admits requests by the memory that their replies may need (docs/internals.md: memory is reserved at the
// request, because smbd's socket must always be drained). One per session, within the worker's memory; one
// thread.
//
// Replies that may still come and memory already held are counted together: a reply that has arrived is no
// longer reserved but is held until the client takes it. Memory itself has a higher limit (hard_limit), so
// that admitted replies can always be read: slabs are only partly used, and smbd also sends unsolicited
// messages.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>

#include "workers/memory/slab.h"
#include "workers/session/worker_memory.h"

namespace smbdirect::workers {

/// Whether there is room, and whose progress can make some.
enum class Room : uint8_t {
  yes,
  own,     // the connection's own: when its client takes what it is sent, or is answered
  others,  // the worker's, or this client's share of it
};

class Admission {
 public:
  /// limit: of promised and held bytes of this connection together. held: memory of this connection.
  Admission(uint64_t limit, WorkerMemory& memory, std::shared_ptr<WorkerMemory::Client> client,
            const Budget& held)
      : limit_(limit),
        memory_(memory),
        client_(std::move(client)),
        reserved_(UINT64_MAX, &client_->promised),
        held_(held) {}
  ~Admission() { reserved_.refund(reserved_.used()); }
  Admission(const Admission&) = delete;
  Admission& operator=(const Admission&) = delete;

  /// The limit of memory that goes with a limit of admission.
  [[nodiscard]] static constexpr uint64_t hard_limit(uint64_t limit) {
    constexpr uint64_t kLeast = 2u << 20;
    return limit + std::max(limit / 8, kLeast);
  }
  void set_limit(uint64_t limit) { limit_ = limit; }

  /// What a request needs whose reply may be `bytes`. idle: the client has taken all it was sent, and nothing
  /// of it is on its way to smbd. An idle connection that awaits nothing is served whatever its own limit.
  [[nodiscard]] Room room(uint64_t bytes, bool idle) const {
    if (let_through_) return Room::yes;
    const bool first = idle && reserved_.used() < kOnlyTokens;
    if (!first && !fits_own(bytes)) return Room::own;
    if (memory_.fits(*client_, bytes)) return Room::yes;
    if (first && (memory_.alone(*client_) || (bytes <= kFloorBytes && memory_.floor_fits(bytes))))
      return Room::yes;
    return Room::others;
  }
  void reserve(uint64_t bytes) {
    reserved_.force(bytes);
    let_through_ = false;
  }
  void release(uint64_t bytes) { reserved_.refund(std::min(bytes, reserved_.used())); }
  /// What was promised is long in coming: it counts when it is here. (A late release then counts for what was
  /// promised since, which is no more than careless: memory itself is charged where it sits.)
  void forget() { release(reserved_.used()); }
  [[nodiscard]] uint64_t reserved() const { return reserved_.used(); }
  /// The next request goes, whatever the limits.
  void let_through() { let_through_ = true; }

 private:
  static constexpr uint64_t kFloorBytes = 256 * 1024;
  static constexpr uint64_t kOnlyTokens = 64 * 1024;  // of requests that wait: no answer is due

  [[nodiscard]] bool fits_own(uint64_t bytes) const {
    const uint64_t used = reserved_.used() + held_.used();
    return used <= limit_ && limit_ - used >= bytes;
  }

  uint64_t limit_;
  WorkerMemory& memory_;
  std::shared_ptr<WorkerMemory::Client> client_;
  Budget reserved_;
  const Budget& held_;
  bool let_through_ = false;
};

}  // namespace smbdirect::workers
