// SPDX-License-Identifier: MIT
#include "workers/fabric/verbs/receive_queue.h"

#include <algorithm>
#include <cerrno>

namespace smbdirect::workers::fabric::verbs {

bool ReceiveQueue::set_limit(uint32_t limit) {
  limit_ = std::min(limit, limit_);
  return receives_.size() <= limit_;
}

std::expected<void, PostError> ReceiveQueue::add(uint64_t id, const Sge& into, MrTable* domain) {
  if (receives_.size() >= limit_) return std::unexpected(PostError::queue_full);
  Receive receive{.id = id,
                  .memory = {.addr = reinterpret_cast<uint64_t>(into.addr), .length = into.length, .lkey = 0},
                  .block = into.key,
                  .known = into.length == 0};
  if (domain != nullptr && !receive.known) {
    const auto key = domain->local_key(into.key);
    if (!key) return std::unexpected(PostError::not_registered);
    receive.memory.lkey = *key;
    receive.known = true;
  }
  receives_.push(receive);
  return {};
}

shm::Result<> ReceiveQueue::post(const Device::Seat& seat, ibv_qp& qp, MrTable& domain) {
  Device& device = seat.device();
  auto& chain = device.scratch().receive;
  while (has_unposted()) {
    unsigned count = 0;
    for (; count < WorkScratch::kChain && posted_ + count < receives_.size(); ++count) {
      Receive& receive = receives_[posted_ + count];
      if (!receive.known) {
        const auto key = domain.local_key(receive.block);
        if (!key) {
          receives_.drop_newest(receives_.size() - posted_);
          return shm::fail("the memory of a receive cannot be registered");
        }
        receive.memory.lkey = *key;
        receive.known = true;
      }
      chain[count] = {.wr_id = seat.work_id(WorkKind::receive, next_sequence_ + count).pack(),
                      .next = nullptr,
                      .sg_list = &receive.memory,
                      .num_sge = receive.memory.length == 0 ? 0 : 1};
      if (count > 0) chain[count - 1].next = &chain[count];
    }
    ibv_recv_wr* bad = nullptr;
    int error = device.api().post_recv(&qp, chain.data(), &bad);
    if (error < 0) error = errno;  // libsiw's way to say that the kernel refused
    const auto taken = error == 0 ? count : bad == nullptr ? 0U : static_cast<unsigned>(bad - chain.data());
    ++device.stats().doorbells;
    device.stats().work_requests += taken;
    posted_ += taken;
    next_sequence_ += taken;
    if (error != 0) {
      receives_.drop_newest(receives_.size() - posted_);
      return shm::fail("ibv_post_recv", error);
    }
  }
  return {};
}

std::expected<uint64_t, const char*> ReceiveQueue::complete(uint32_t sequence) {
  const uint32_t oldest = (next_sequence_ - posted_) & WorkId::kSequenceMask;
  if (posted_ == 0 || sequence != oldest)
    return std::unexpected("the RDMA device completed a receive out of order");
  const uint64_t id = receives_.front().id;
  receives_.drop();
  --posted_;
  return id;
}

}  // namespace smbdirect::workers::fabric::verbs
