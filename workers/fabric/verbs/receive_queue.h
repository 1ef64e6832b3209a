// SPDX-License-Identifier: MIT
// The receives of one connection: those that wait for the queue pair or for ring(), and those posted, in
// order. Owned by the endpoint; the loop's thread only.
#pragma once

#include <cstdint>
#include <expected>
#include <vector>

#include "shm/base/result.h"
#include "workers/fabric/fabric.h"
#include "workers/fabric/verbs/device.h"
#include "workers/memory/ring.h"

namespace smbdirect::workers::fabric::verbs {

class ReceiveQueue {
 public:
  explicit ReceiveQueue(uint32_t capacity) : limit_(capacity) {}

  /// What the queue pair can hold. False when more is queued already.
  [[nodiscard]] bool set_limit(uint32_t limit);

  /// domain: null while there is none; keys are looked up in post() then.
  [[nodiscard]] std::expected<void, PostError> add(uint64_t id, const Sge& into, MrTable* domain);
  /// Posts what was added since, as one chain. When that fails, what was not posted is forgotten.
  [[nodiscard]] shm::Result<> post(const Device::Seat& seat, ibv_qp& qp, MrTable& domain);
  [[nodiscard]] bool has_unposted() const { return posted_ < receives_.size(); }

  /// A completion arrived, successful or not. The user's id, or nothing when it is not the next one's.
  [[nodiscard]] std::expected<uint64_t, const char*> complete(uint32_t sequence);
  /// Receives on the queue pair that have not come back.
  [[nodiscard]] uint32_t outstanding() const { return posted_; }
  void trim() { receives_.trim(); }

 private:
  struct Receive {
    uint64_t id;
    ibv_sge memory;
    uint32_t block;  // the arena's key, while memory.lkey is not known
    bool known;
  };

  uint32_t limit_;
  Ring<Receive> receives_;
  uint32_t posted_ = 0;         // the oldest so many are on the queue pair
  uint32_t next_sequence_ = 0;  // of the next to be posted
};

}  // namespace smbdirect::workers::fabric::verbs
