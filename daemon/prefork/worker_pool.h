// SPDX-License-Identifier: MIT
// The slots of the pool, by number. Owned by the supervisor; the classes that send messages to workers hold
// references to it. One thread.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "daemon/prefork/worker_slot.h"
#include "daemon/prefork/worker_state.h"
#include "shm/loop/loop.h"
#include "shm/registry_layout.h"

namespace smbdirect::daemon {

class WorkerPool {
 public:
  /// slots: how many; no process is started.
  WorkerPool(shm::Loop& loop, size_t slots, const PoolConfig& config, const std::string& program,
             WorkerSlot::Observer& observer) {
    for (size_t slot = 0; slot < slots; ++slot) {
      slots_.push_back(std::make_unique<WorkerSlot>(loop, slot, config, program, generations_, observer));
    }
  }
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  [[nodiscard]] size_t size() const { return slots_.size(); }
  [[nodiscard]] WorkerSlot& operator[](size_t slot) { return *slots_.at(slot); }
  [[nodiscard]] const WorkerSlot& operator[](size_t slot) const { return *slots_.at(slot); }

  /// The process that is in the slot, as the registry names it.
  [[nodiscard]] shm::WorkerRef ref(size_t slot) const {
    return {.slot = uint32_t(slot), .generation = slots_.at(slot)->generation()};
  }
  [[nodiscard]] size_t count(WorkerState state) const {
    return count_if([&](const WorkerSlot& worker) { return worker.state() == state; });
  }
  template <class Is>
  [[nodiscard]] size_t count_if(Is is) const {
    return size_t(std::ranges::count_if(slots_, [&](const auto& slot) { return is(std::as_const(*slot)); }));
  }
  template <class Is>
  [[nodiscard]] bool any(Is is) const {
    return count_if(is) > 0;
  }
  template <class Do>
  void each(Do act) {
    for (const auto& slot : slots_) act(*slot);
  }

 private:
  uint32_t generations_ = 0;  // before the slots, which count on in it
  std::vector<std::unique_ptr<WorkerSlot>> slots_;
};

}  // namespace smbdirect::daemon
