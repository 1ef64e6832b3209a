// SPDX-License-Identifier: MIT
// Bytes beside slabs that count against a budget for as long as they are held: queue entries, copies, tables.
// Owned by the object that holds them, and released when that is destroyed; one thread.
#pragma once

#include <cassert>
#include <cstdint>

#include "workers/memory/slab.h"

namespace smbdirect::workers {

class Charge {
 public:
  /// budget outlives this.
  explicit Charge(Budget& budget) : budget_(budget) {}
  Charge(const Charge&) = delete;
  Charge& operator=(const Charge&) = delete;
  ~Charge() { budget_.refund(held_); }

  /// Never fails, because the memory exists already: callers check the budget before they begin more work.
  void add(uint64_t bytes) {
    budget_.force(bytes);
    held_ += bytes;
  }
  void sub(uint64_t bytes) {
    assert(held_ >= bytes);
    budget_.refund(bytes);
    held_ -= bytes;
  }
  /// As much as this, no more and no less.
  void set(uint64_t bytes) { bytes > held_ ? add(bytes - held_) : sub(held_ - bytes); }
  [[nodiscard]] uint64_t held() const { return held_; }

 private:
  Budget& budget_;
  uint64_t held_ = 0;
};

}  // namespace smbdirect::workers
