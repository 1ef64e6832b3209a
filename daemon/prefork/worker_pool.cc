// SPDX-License-Identifier: MIT
#include "daemon/prefork/worker_pool.h"

#include <ranges>

#include "daemon/config/placement_text.h"
#include "daemon/prefork/placement.h"
#include "shm/base/log.h"

namespace smbdirect::daemon {

/// Null: every slot has a process that serves or ends, and there are as many as there can be.
WorkerSlot* WorkerPool::free_slot() {
  const auto found =
      std::ranges::find(slots_, WorkerState::stopped, [](const auto& slot) { return slot->state(); });
  if (found != slots_.end()) return found->get();
  if (slots_.size() >= shm::kWorkerSlots) return nullptr;
  add_slot();
  return slots_.back().get();
}

void WorkerPool::adopt(LeftWorker left) {
  const pid_t pid = left.pid;
  WorkerSlot* const slot = free_slot();
  const auto adopted = slot != nullptr ? slot->adopt(std::move(left)) : shm::fail("there is no free slot");
  if (!adopted) Adoption::not_adopted(pid, adopted.error().text());
}

/// Those that others are to replace do not count.
std::optional<unsigned> WorkerPool::place() const {
  std::vector<unsigned> taken;
  for (const auto& slot : slots_) {
    if (slot->active() && slot->up_to_date() && slot->processor()) taken.push_back(*slot->processor());
  }
  const std::vector<unsigned> candidates = Placement::of_this_host().candidates(shared_.config);
  if (candidates.empty() && shared_.config.placement != kNoPlacement) {
    shm::log::write(
        shm::log::Level::warning,
        "/placement is \"%s\", of which this process may use no processor: workers are not placed",
        shared_.config.placement.c_str());
  }
  return least_taken(candidates, taken);
}

/// The last one of those that have, or have not, the configuration of now. One that is not ready is
/// preferred: it has no connections.
void WorkerPool::drain_one(bool up_to_date) {
  WorkerSlot* best = nullptr;
  for (const auto& slot : slots_) {
    if (!slot->active() || slot->up_to_date() != up_to_date) continue;
    const bool better =
        best == nullptr || best->state() == WorkerState::ready || slot->state() != WorkerState::ready;
    if (better) best = slot.get();
  }
  if (best != nullptr) best->retire(shared_.config.drain_deadline_ms);
}

void WorkerPool::approach_configuration() {
  const size_t wanted = shared_.config.workers;
  const auto current = [this] {
    return count_if([](const WorkerSlot& slot) { return slot.active() && slot.up_to_date(); });
  };
  const auto older = [this] {
    return count_if([](const WorkerSlot& slot) { return slot.active() && !slot.up_to_date(); });
  };
  while (current() > wanted) drain_one(true);
  while (current() < wanted) {
    WorkerSlot* slot = free_slot();
    if (slot == nullptr) break;
    slot->start();
  }
  const size_t ready = count_if(
      [](const WorkerSlot& slot) { return slot.state() == WorkerState::ready && slot.up_to_date(); });
  while (older() + std::min(ready, wanted) > wanted) drain_one(false);
  // No slot is free, and none will be: one of the older ones makes room, one at a time.
  const bool ending = any([](const WorkerSlot& slot) { return slot.has_process() && !slot.active(); });
  const bool all_serve = older() + std::min(ready, wanted) >= wanted;
  if (current() < wanted && older() > 0 && !ending && all_serve) drain_one(false);
}

}  // namespace smbdirect::daemon
