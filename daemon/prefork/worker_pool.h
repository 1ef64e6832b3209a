// SPDX-License-Identifier: MIT
// The slots of the pool, by number. Owned by the supervisor; the classes that send messages to workers hold
// references to it. One thread.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "daemon/prefork/adoption.h"
#include "daemon/prefork/worker_slot.h"
#include "daemon/prefork/worker_state.h"
#include "shm/loop/loop.h"
#include "shm/registry_layout.h"

namespace smbdirect::daemon {

class WorkerPool {
 public:
  /// As many slots as the configuration wants workers; no process is started.
  WorkerPool(shm::Loop& loop, const PoolConfig& config, const std::string& program,
             WorkerSlot::Observer& observer)
      : adoption_(loop, config.run_directory, [this](LeftWorker left) { adopt(std::move(left)); }),
        shared_{
            .loop = loop, .config = config, .program = program, .observer = observer, .adoption = adoption_} {
    shared_.place = [this] { return place(); };
    while (slots_.size() < config.workers) add_slot();
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
  /// Workers that former daemons left: they are adopted once they answer. Before any is started.
  [[nodiscard]] shm::Result<> find_left() { return adoption_.find(); }
  /// No more of them from now on.
  void close_adoption() { adoption_.close(); }
  [[nodiscard]] uint64_t first_connection() const { return adoption_.first_connection(); }

  /// Since this daemon started, in all slots.
  [[nodiscard]] uint32_t processes_started() const { return shared_.generations; }
  template <class Do>
  void each(Do act) {
    for (size_t slot = 0; slot < slots_.size(); ++slot) act(*slots_[slot]);  // what it does may add one
  }

  /// No worker gets offers, nor any that starts later; false: those do that are not held by themselves.
  void hold_all(bool held) {
    shared_.held = held;
    if (!held) each([](WorkerSlot& slot) { slot.hold(false); });
  }
  [[nodiscard]] bool all_held() const { return shared_.held; }

  /// Workers that start from now on have another configuration than those before.
  void configuration_changed() { ++shared_.configuration; }
  /// Takes a step towards as many workers as the configuration wants, all with the configuration of now:
  /// starts them in free slots, and drains those that are too many or have an older configuration as soon as
  /// others are ready in their place. To be called again when a worker has become ready or has ended.
  void approach_configuration();

 private:
  void add_slot() { slots_.push_back(std::make_unique<WorkerSlot>(shared_, slots_.size())); }
  [[nodiscard]] WorkerSlot* free_slot();
  [[nodiscard]] std::optional<unsigned> place() const;
  void drain_one(bool up_to_date);
  void adopt(LeftWorker left);

  Adoption adoption_;
  WorkerSlot::Shared shared_;                       // before the slots, which refer to it
  std::vector<std::unique_ptr<WorkerSlot>> slots_;  // never fewer: who talks to workers knows them by number
};

}  // namespace smbdirect::daemon
