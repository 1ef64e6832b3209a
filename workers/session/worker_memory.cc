// SPDX-License-Identifier: MIT
#include "workers/session/worker_memory.h"

#include <algorithm>

namespace smbdirect::workers {

WorkerMemory::WorkerMemory(uv_loop_t& loop, uint64_t limit, unsigned ipv6_prefix_length)
    : loop_(loop),
      limit_(limit),
      ipv6_prefix_length_(ipv6_prefix_length),
      held_(limit + kAboveLimit),
      promised_(UINT64_MAX),
      look_timer_(loop, [this] { look(); }) {}

std::shared_ptr<WorkerMemory::Client> WorkerMemory::client(const sockaddr_storage& address) {
  const shm::Host key = shm::network_of(shm::host_of(address), ipv6_prefix_length_);
  std::weak_ptr<Client>& known = clients_[key];
  if (auto client = known.lock()) return client;
  std::shared_ptr<Client> client(std::make_unique<Client>(*this).release(), [this, key](Client* last) {
    const std::unique_ptr<Client> dies(last);
    clients_.erase(key);
  });
  known = client;
  return client;
}

bool WorkerMemory::fits(const Client& client, uint64_t bytes) const {
  const uint64_t used = held_.used() + promised_.used();
  if (used > limit_ || limit_ - used < bytes) return false;
  const uint64_t own = client.held.used() + client.promised.used();
  return own + bytes <= (limit_ - used) / kShareOfFree;
}

void WorkerMemory::somebody_waits() {
  if (short_since_ != UINT64_MAX) return;
  short_since_ = uv_now(&loop_);
  look_timer_.start(kLookMs);
}

void WorkerMemory::look() {
  const auto waits = [](const MemoryHolder* holder) { return holder->waits_for_others(); };
  const auto waiter = std::ranges::find_if(holders_, waits);
  if (waiter == holders_.end()) {
    short_since_ = UINT64_MAX;
    return;
  }
  look_timer_.start(kLookMs);
  const uint64_t now = uv_now(&loop_);
  if (now - short_since_ < kPatienceMs) return;
  if (MemoryHolder* victim = most_stuck(); victim != nullptr) {
    const uint64_t stuck_ms = now - victim->stuck_since();
    if (stuck_ms < kStuckMs) return;
    victim->end_for_others("other clients wait for memory, and none of the " +
                           std::to_string(victim->reclaimable() >> 10U) +
                           " KiB buffered for this connection has moved for " + std::to_string(stuck_ms) +
                           " ms (/limits/buffered_bytes_per_worker)");
    return;
  }
  // Nobody has anything to give: what is short is what connections cost that are doing nothing wrong. In
  // turn: one that has many requests waits again at once.
  MemoryHolder* const holder = *waiter;
  std::rotate(waiter, waiter + 1, holders_.end());
  holder->let_through();
}

MemoryHolder* WorkerMemory::most_stuck() const {
  constexpr uint64_t kLeast = 64 * 1024;  // not worth a connection
  MemoryHolder* found = nullptr;
  uint64_t oldest = UINT64_MAX;
  for (MemoryHolder* holder : holders_) {
    if (holder->reclaimable() < kLeast) continue;
    const uint64_t since = holder->stuck_since();
    if (since < oldest) {
      found = holder;
      oldest = since;
    }
  }
  return found;
}

}  // namespace smbdirect::workers
