// SPDX-License-Identifier: MIT
// Where an iWARP device puts the answers to our RDMA READs. Such a device needs memory that the peer may
// write to, and a peer that has the key could write at any time. So it gets this memory, which belongs to one
// connection and holds nothing else, and the data is copied to its destination when it has arrived. Slots are
// used in turn, because READs complete in order. Owned by the endpoint; one thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "shm/base/result.h"
#include "workers/fabric/verbs/mr_table.h"

namespace smbdirect::workers::fabric::verbs {

class ReadSink {
 public:
  static constexpr uint32_t kSlotBytes = 64 * 1024;
  static constexpr uint32_t kMostSlots = 16;

  [[nodiscard]] static shm::Result<std::unique_ptr<ReadSink>> create(MrTable& domain, uint32_t slots) {
    auto memory = std::make_unique_for_overwrite<std::byte[]>(size_t{slots} * kSlotBytes);
    auto mr = domain.add_memory({memory.get(), size_t{slots} * kSlotBytes},
                                IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE);
    if (!mr) return std::unexpected(mr.error());
    return std::make_unique<ReadSink>(std::move(memory), std::move(*mr), slots);
  }
  ReadSink(std::unique_ptr<std::byte[]> memory, MrHandle mr, uint32_t slots)
      : memory_(std::move(memory)), mr_(std::move(mr)), slots_(slots) {}

  [[nodiscard]] uint32_t slots() const { return slots_; }
  [[nodiscard]] uint32_t local_key() const { return mr_->lkey; }
  [[nodiscard]] std::span<std::byte> slot(uint32_t turn) const {
    return {memory_.get() + size_t{turn % slots_} * kSlotBytes, kSlotBytes};
  }

 private:
  std::unique_ptr<std::byte[]> memory_;
  MrHandle mr_;  // goes before its memory
  uint32_t slots_;
};

}  // namespace smbdirect::workers::fabric::verbs
