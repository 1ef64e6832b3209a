// SPDX-License-Identifier: MIT
#include "workers/fabric/verbs/send_queue.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace smbdirect::workers::fabric::verbs {

SendQueue::SendQueue(uint32_t work, uint32_t reads)
    : limits_{.work = work, .reads = reads}, parts_(std::max<uint32_t>(reads, 1)) {}

std::expected<void, PostError> SendQueue::add(const Message& message, std::span<const Sge> pieces,
                                              MrTable& domain) {
  if (room() == 0) return std::unexpected(PostError::queue_full);
  if (pieces.size() > limits_.pieces) return std::unexpected(PostError::too_many_sges);
  Pending& pending = pending_.next();
  pending.id = message.id;
  pending.op = message.op;
  pending.invalidate = message.invalidate;
  pending.token = message.to.token;
  pending.offset = message.to.offset;
  pending.count = 0;
  pending.bytes = 0;
  for (const Sge& piece : pieces) {
    if (piece.length == 0) continue;
    const auto key = domain.local_key(piece.key);
    if (!key) return std::unexpected(PostError::not_registered);
    pending.pieces[pending.count++] = {
        .addr = reinterpret_cast<uint64_t>(piece.addr), .length = piece.length, .lkey = *key};
    pending.bytes += piece.length;
  }
  if (pending.bytes > limits_.max_message) return std::unexpected(PostError::too_many_sges);
  pending_.extend();
  ++in_use_;
  return {};
}

std::expected<void, PostError> SendQueue::add_read(uint64_t id, const Sge& into, const RemoteMemory& from,
                                                   MrTable& domain) {
  if (room() == 0) return std::unexpected(PostError::queue_full);
  uint32_t local_key = 0;
  // With a sink the device never sees this memory.
  if (limits_.sink == nullptr && into.length > 0) {
    const auto key = domain.local_key(into.key);
    if (!key) return std::unexpected(PostError::not_registered);
    local_key = *key;
  }
  reads_.push({.id = id,
               .into = into.addr,
               .length = into.length,
               .local_key = local_key,
               .offset = from.offset,
               .token = from.token,
               .asked = 0});
  ++in_use_;
  return {};
}

int SendQueue::post(const Device::Seat& seat, ibv_qp& qp) {
  Device& device = seat.device();
  auto& chain = device.scratch().send;
  for (;;) {
    // Messages first: a READ in front of them would hold their completions up until its data is here.
    const unsigned messages = build_messages(seat, chain);
    const unsigned reads = build_reads(seat, std::span(chain).subspan(messages));
    const unsigned count = messages + reads;
    if (count == 0) return 0;
    for (unsigned i = 1; i < count; ++i) chain[i - 1].next = &chain[i];

    ibv_send_wr* bad = nullptr;
    int error = device.api().post_send(&qp, chain.data(), &bad);
    if (error < 0) error = errno;  // libsiw's way to say that the kernel refused
    const auto taken = error == 0 ? count : bad == nullptr ? 0U : static_cast<unsigned>(bad - chain.data());
    ++device.stats().doorbells;
    device.stats().work_requests += taken;
    if (error != 0) {
      posted_.drop_newest(messages - std::min(taken, messages));
      parts_.drop_newest(reads - (taken > messages ? taken - messages : 0));
      pending_.clear();
      return error;
    }
    for (unsigned i = 0; i < messages; ++i) pending_.drop();
  }
}

unsigned SendQueue::build_messages(const Device::Seat& seat, std::span<ibv_send_wr> chain) {
  unsigned count = 0;
  for (; count < chain.size() && count < pending_.size(); ++count) {
    Pending& pending = pending_[count];
    ibv_send_wr& wr = chain[count];
    wr = {};
    const uint32_t sequence = next_sequence_++ & WorkId::kSequenceMask;
    wr.wr_id = seat.work_id(WorkKind::message, sequence).pack();
    wr.sg_list = pending.pieces;
    wr.num_sge = static_cast<int>(pending.count);
    if (pending.op == Op::rdma_write) {
      wr.opcode = IBV_WR_RDMA_WRITE;
      wr.wr.rdma.remote_addr = pending.offset;
      wr.wr.rdma.rkey = pending.token;
    } else if (pending.invalidate) {
      wr.opcode = IBV_WR_SEND_WITH_INV;
      wr.invalidate_rkey = pending.token;
      wr.wr.rdma.rkey = pending.token;  // where libsiw looks for it; nobody else does
    } else {
      wr.opcode = IBV_WR_SEND;
      // Not with invalidate: siw takes no other SEND inline.
      if (pending.bytes <= limits_.inlined) wr.send_flags |= IBV_SEND_INLINE;
    }
    if (++unsignalled_ >= kSignalEvery) {
      wr.send_flags |= IBV_SEND_SIGNALED;
      unsignalled_ = 0;
    }
    posted_.push({.id = pending.id, .op = pending.op, .sequence = sequence, .bytes = pending.bytes});
  }
  if (count > 0) {
    chain[count - 1].send_flags |= IBV_SEND_SIGNALED;
    unsignalled_ = 0;
  }
  return count;
}

unsigned SendQueue::build_reads(const Device::Seat& seat, std::span<ibv_send_wr> chain) {
  unsigned count = 0;
  Part next;
  RemoteMemory from;
  for (; count < chain.size() && next_part(next, from); ++count) {
    next.sequence = next_sequence_++ & WorkId::kSequenceMask;
    Part& part = parts_.push(next);
    ibv_send_wr& wr = chain[count];
    wr = {};
    wr.wr_id = seat.work_id(WorkKind::read, part.sequence).pack();
    wr.sg_list = &part.into;
    wr.num_sge = part.into.length == 0 ? 0 : 1;
    wr.opcode = IBV_WR_RDMA_READ;
    wr.send_flags = IBV_SEND_SIGNALED;
    wr.wr.rdma.remote_addr = from.offset;
    wr.wr.rdma.rkey = from.token;
  }
  return count;
}

/// The next part of the READ whose turn it is, when there is one and the peer takes it.
bool SendQueue::next_part(Part& part, RemoteMemory& from) {
  if (reads_begun_ >= reads_released_ || parts_.size() >= limits_.reads || parts_.full()) return false;
  Read& read = reads_[reads_begun_];
  const uint32_t left = read.length - read.asked;
  uint32_t length = std::min(left, limits_.max_message);
  from = {.offset = read.offset + read.asked, .token = read.token};
  part = {};
  part.wanted_at = read.into + read.asked;
  if (limits_.sink != nullptr) {
    length = std::min(length, ReadSink::kSlotBytes);
    part.slot = next_slot_++ % limits_.sink->slots();
    part.into = {.addr = reinterpret_cast<uint64_t>(limits_.sink->slot(part.slot).data()),
                 .length = length,
                 .lkey = limits_.sink->local_key()};
  } else {
    part.into = {
        .addr = reinterpret_cast<uint64_t>(part.wanted_at), .length = length, .lkey = read.local_key};
  }
  read.asked += length;
  part.last = read.asked == read.length;
  if (part.last) ++reads_begun_;
  return true;
}

std::expected<void, const char*> SendQueue::complete(const WorkId& work, bool success, Traffic& traffic,
                                                     std::vector<Completion>& done) {
  if (work.kind == WorkKind::message) {
    if (posted_.empty() || !WorkId::not_after(posted_.front().sequence, work.sequence)) {
      return std::unexpected("the RDMA device completed a SEND or RDMA WRITE twice");
    }
    complete_messages(work.sequence, success, traffic, done);
    return {};
  }
  if (parts_.empty() || parts_.front().sequence != work.sequence) {
    return std::unexpected("the RDMA device completed an RDMA READ out of order");
  }
  if (success) complete_part(traffic, done);
  parts_.pop();
  return {};
}

void SendQueue::complete_messages(uint32_t sequence, bool success, Traffic& traffic,
                                  std::vector<Completion>& done) {
  while (!posted_.empty() && WorkId::not_after(posted_.front().sequence, sequence)) {
    const Posted& posted = posted_.front();
    if (success) {
      done.push_back({.id = posted.id, .op = posted.op, .bytes = static_cast<uint32_t>(posted.bytes)});
      ++undelivered_;
      if (posted.op == Op::send) {
        ++traffic.sends;
      } else {
        ++traffic.writes;
        traffic.write_bytes += posted.bytes;
      }
    }
    posted_.drop();
  }
}

void SendQueue::complete_part(Traffic& traffic, std::vector<Completion>& done) {
  const Part& part = parts_.front();
  ++parts_read_;
  if (limits_.sink != nullptr && part.into.length > 0) {
    std::memcpy(part.wanted_at, limits_.sink->slot(part.slot).data(), part.into.length);
    traffic.copied_bytes += part.into.length;
  }
  if (!part.last) return;
  const Read& read = reads_.front();
  done.push_back({.id = read.id, .op = Op::rdma_read, .bytes = read.length});
  ++undelivered_;
  ++traffic.reads;
  traffic.read_bytes += read.length;
  reads_.drop();
  --reads_begun_;
  --reads_released_;
}

}  // namespace smbdirect::workers::fabric::verbs
