// SPDX-License-Identifier: MIT
// Admission of requests by what their replies may cost (design: memory is decided at the request, because
// smbd's socket must always be drained). One per session, within the worker's; one thread.
//
// What counts is what replies may still bring and what is held already: a reply that has come in leaves the
// promises but stays in memory until the client takes it. Memory itself has a higher limit (hard_limit), so
// that what was admitted can always be read: slabs are used up in part, and smbd also speaks unasked.
#pragma once

#include <cstdint>

#include "workers/memory/slab.h"

namespace smbdirect::workers {

class Admission {
 public:
  /// promised: replies that may come, all connections; held: memory of this connection, held_by_worker: of
  /// all. Limits are for promised and held bytes together.
  struct Limits {
    uint64_t connection{};
    uint64_t worker{};
  };
  Admission(const Limits& limits, Budget& promised, const Budget& held, const Budget& held_by_worker)
      : limits_(limits),
        reserved_(UINT64_MAX, &promised),
        promised_(promised),
        held_(held),
        held_by_worker_(held_by_worker) {}
  ~Admission() { reserved_.refund(reserved_.used()); }
  Admission(const Admission&) = delete;
  Admission& operator=(const Admission&) = delete;

  /// The limit of memory that goes with a limit of admission.
  [[nodiscard]] static constexpr uint64_t hard_limit(uint64_t limit) {
    constexpr uint64_t kLeast = 2u << 20;
    return limit + (limit / 8 > kLeast ? limit / 8 : kLeast);
  }

  /// idle: the client has taken all it was sent. An idle connection that awaits nothing is always served,
  /// whatever the size and the others.
  [[nodiscard]] bool has_room(uint64_t bytes, bool idle) const {
    if (idle && reserved_.used() == 0) return true;
    return fits(limits_.connection, reserved_.used() + held_.used(), bytes) &&
           fits(limits_.worker, promised_.used() + held_by_worker_.used(), bytes);
  }
  void reserve(uint64_t bytes) { reserved_.force(bytes); }
  void release(uint64_t bytes) { reserved_.refund(bytes < reserved_.used() ? bytes : reserved_.used()); }
  [[nodiscard]] uint64_t reserved() const { return reserved_.used(); }

 private:
  [[nodiscard]] static bool fits(uint64_t limit, uint64_t used, uint64_t bytes) {
    return used <= limit && limit - used >= bytes;
  }

  Limits limits_;
  Budget reserved_;
  const Budget& promised_;
  const Budget& held_;
  const Budget& held_by_worker_;
};

}  // namespace smbdirect::workers
