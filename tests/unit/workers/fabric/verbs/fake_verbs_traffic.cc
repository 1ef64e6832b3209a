// SPDX-License-Identifier: MIT
// How the fake device moves data between its queue pairs, and what it says of work it cannot do.
#include <algorithm>
#include <cstring>

#include "fake_verbs.h"

namespace smbdirect::test {

bool FakeVerbs::run() {
  bool any = false;
  for (bool moved = true; moved;) {
    moved = false;
    for (Qp* one : qps()) {
      if (one->state == IBV_QPS_ERR) {
        moved |= flush_all(*one);
      } else if (one->state == IBV_QPS_RTS && !hold_sends) {
        moved |= move_one(*one);
      }
    }
    any |= moved;
  }
  return any;
}

bool FakeVerbs::flush_all(Qp& qp) {
  if (!flush || (qp.sends.empty() && qp.reads.empty() && qp.receives.empty())) return false;
  for (auto* queue : {&qp.reads, &qp.sends}) {
    for (const Sent& one : *queue) {
      if (flush_unsignalled || (one.wr.send_flags & IBV_SEND_SIGNALED) != 0) {
        complete(qp, one.wr.wr_id, IBV_WC_WR_FLUSH_ERR);
      }
    }
    queue->clear();
  }
  for (const Received& one : qp.receives) complete(qp, one.wr_id, IBV_WC_WR_FLUSH_ERR);
  qp.receives.clear();
  return true;
}

bool FakeVerbs::move_one(Qp& qp) {
  if (qp.sends.empty()) return false;
  Qp* peer = this->qp(qp.peer);
  Sent one = qp.sends.front();
  const bool read = one.wr.opcode == IBV_WR_RDMA_READ;
  if (!read && !qp.reads.empty() && !sends_pass_reads) return false;
  qp.sends.pop_front();
  if (peer == nullptr || peer->state == IBV_QPS_ERR) {
    fault(qp, one, IBV_WC_RETRY_EXC_ERR);
    return true;
  }
  if (read && (hold_reads || !qp.reads.empty())) {
    qp.reads.push_back(std::move(one));
    most_reads = std::max(most_reads, qp.reads.size());
    if (qp.max_reads >= 0 && qp.reads.size() > static_cast<size_t>(qp.max_reads)) mistake("too many READs");
    return true;
  }
  const bool carried = one.wr.opcode == IBV_WR_SEND || one.wr.opcode == IBV_WR_SEND_WITH_INV
                           ? carry_send(qp, *peer, one)
                           : carry_rdma(qp, *peer, one, read);
  if (carried && (one.wr.send_flags & IBV_SEND_SIGNALED) != 0) complete(qp, one.wr.wr_id, IBV_WC_SUCCESS);
  return true;
}

void FakeVerbs::finish_read(Qp& qp) {
  Sent one = std::move(qp.reads.front());
  qp.reads.pop_front();
  if (carry_rdma(qp, *this->qp(qp.peer), one, true)) complete(qp, one.wr.wr_id, IBV_WC_SUCCESS);
}

std::vector<std::byte> FakeVerbs::gather(const Sent& one) const {
  if (!one.inlined.empty()) return one.inlined;
  std::vector<std::byte> bytes;
  for (const ibv_sge& piece : one.pieces) {
    const auto* from = reinterpret_cast<const std::byte*>(piece.addr);
    bytes.insert(bytes.end(), from, from + piece.length);
  }
  return bytes;
}

void FakeVerbs::fault(Qp& qp, const Sent& one, ibv_wc_status status) {
  complete(qp, one.wr.wr_id, status);
  qp.state = IBV_QPS_ERR;
}

bool FakeVerbs::carry_send(Qp& qp, Qp& peer, Sent& one) {
  if (peer.receives.empty()) {
    fault(qp, one, IBV_WC_RNR_RETRY_EXC_ERR);
    return false;
  }
  const Received into = peer.receives.front();
  peer.receives.pop_front();
  const std::vector<std::byte> bytes = gather(one);
  const size_t room = into.pieces.empty() ? 0 : into.pieces[0].length;
  if (bytes.size() > room) {
    complete(peer, into.wr_id, IBV_WC_LOC_LEN_ERR);
    peer.state = IBV_QPS_ERR;
    fault(qp, one, IBV_WC_REM_INV_REQ_ERR);
    return false;
  }
  if (!bytes.empty()) std::memcpy(reinterpret_cast<void*>(into.pieces[0].addr), bytes.data(), bytes.size());
  const bool invalidates = one.wr.opcode == IBV_WR_SEND_WITH_INV && reports_invalidate;
  complete(peer, into.wr_id, IBV_WC_SUCCESS, static_cast<uint32_t>(bytes.size()),
           invalidates ? static_cast<unsigned>(IBV_WC_WITH_INV) : 0U,
           invalidates ? one.wr.invalidate_rkey : 0);
  return true;
}

bool FakeVerbs::carry_rdma(Qp& qp, Qp& peer, const Sent& one, bool read) {
  uint64_t length = 0;
  for (const ibv_sge& piece : one.pieces) length += piece.length;
  const uint64_t address = one.wr.wr.rdma.remote_addr;
  const unsigned need = read ? IBV_ACCESS_REMOTE_READ : IBV_ACCESS_REMOTE_WRITE;
  const Mr* mr = find(peer.handle.pd, one.wr.wr.rdma.rkey, address, length);
  if ((peer.access & need) == 0 || mr == nullptr || (static_cast<unsigned>(mr->access) & need) == 0) {
    fault(qp, one, IBV_WC_REM_ACCESS_ERR);
    peer.state = IBV_QPS_ERR;
    return false;
  }
  if (!read) {
    const std::vector<std::byte> bytes = gather(one);
    if (!bytes.empty()) std::memcpy(reinterpret_cast<void*>(address), bytes.data(), bytes.size());
  } else if (length > 0) {
    const ibv_sge& into = one.pieces[0];
    const Mr* sink = find(qp.handle.pd, into.lkey, into.addr, into.length);
    if (device.transport_type == IBV_TRANSPORT_IWARP && (sink->access & IBV_ACCESS_REMOTE_WRITE) == 0) {
      mistake("a READ into memory that an iWARP device cannot write to");
    }
    std::memcpy(reinterpret_cast<void*>(into.addr), reinterpret_cast<const void*>(address), length);
  }
  return true;
}

}  // namespace smbdirect::test
