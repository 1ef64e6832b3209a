// SPDX-License-Identifier: MIT
#include "workers/transport/rdma_queues.h"

#include <algorithm>
#include <array>
#include <utility>

namespace smbdirect::workers {

void RdmaQueues::write(SlabRef owner, std::span<const std::byte> bytes, fabric::RemoteMemory to) {
  ++writes_requested_;
  charge_.add(kWriteBytes);
  writes_.push({std::move(owner), bytes, to});
}

void RdmaQueues::read(std::span<std::byte> into, uint32_t key, fabric::RemoteMemory from, uint64_t cookie) {
  charge_.add(kReadBytes);
  reads_.push({into, key, from, cookie});
}

std::expected<void, fabric::PostError> RdmaQueues::post(fabric::Endpoint& endpoint, uint64_t at_time) {
  const auto reads = post_reads(endpoint, at_time);
  const auto writes = post_writes(endpoint, at_time);
  return reads ? writes : reads;
}

std::expected<void, fabric::PostError> RdmaQueues::post_reads(fabric::Endpoint& endpoint, uint64_t at_time) {
  const uint32_t reserved = reserved_for_sends(endpoint.attributes().max_send_work);
  while (!reads_.empty() && endpoint.send_room() > reserved) {
    const Read& read = reads_.front();
    const fabric::Sge into{read.into.data(), static_cast<uint32_t>(read.into.size()), read.key};
    if (const auto posted = endpoint.post_read(0, into, read.from); !posted) {
      return std::unexpected(posted.error());
    }
    reads_in_flight_.push({.cookie = read.cookie, .at_time = at_time});
    (void)reads_.pop();
  }
  return {};
}

std::expected<void, fabric::PostError> RdmaQueues::post_writes(fabric::Endpoint& endpoint, uint64_t at_time) {
  const uint32_t most_sge = std::min(kMaxSge, endpoint.attributes().max_send_sge);
  const uint32_t reserved = reserved_for_sends(endpoint.attributes().max_send_work);
  while (!writes_.empty() && endpoint.send_room() > reserved) {
    std::array<fabric::Sge, kMaxSge> sges;
    const fabric::RemoteMemory to = writes_.front().to;
    uint32_t count = 0;
    uint64_t bytes = 0;
    while (count < most_sge && count < writes_.size()) {
      const Write& next = writes_.at(count);
      if (next.to.token != to.token || next.to.offset != to.offset + bytes) break;
      sges[count] = {const_cast<std::byte*>(next.bytes.data()), static_cast<uint32_t>(next.bytes.size()),
                     next.owner ? next.owner.key() : 0};
      bytes += next.bytes.size();
      ++count;
    }
    if (const auto posted = endpoint.post_write(0, std::span(sges).first(count), to); !posted) {
      return std::unexpected(posted.error());
    }
    for (uint32_t i = 0; i < count; ++i) write_references_.push(writes_.pop().owner);
    writes_in_flight_.push({.references = count, .at_time = at_time});
    writes_posted_ += count;
  }
  return {};
}

uint32_t RdmaQueues::write_done() {
  const uint32_t count = writes_in_flight_.pop().references;
  for (uint32_t n = count; n > 0; --n) (void)write_references_.pop();
  charge_.sub(count * kWriteBytes);
  writes_done_ += count;
  return count;
}

uint64_t RdmaQueues::read_done() {
  charge_.sub(kReadBytes);
  ++reads_done_;
  return reads_in_flight_.pop().cookie;
}

}  // namespace smbdirect::workers
