// SPDX-License-Identifier: MIT
#include "workers/fabric/verbs/queue_pair.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <string>

namespace smbdirect::workers::fabric::verbs {
namespace {

uint8_t least(uint32_t ours, int device, uint8_t peer) {
  const auto most = static_cast<uint32_t>(std::clamp(device, 0, 255));
  uint32_t value = std::min(ours, most);
  if (peer != 0) value = std::min<uint32_t>(value, peer);
  return static_cast<uint8_t>(value);
}

uint32_t within(uint32_t wanted, int device) {
  return std::min(wanted, static_cast<uint32_t>(std::max(device, 1)));
}

ibv_qp* ask(VerbsApi& api, ibv_pd& pd, ibv_cq& cq, const QueueSizes& sizes, ibv_qp_init_attr& attributes) {
  attributes = {};
  attributes.send_cq = &cq;
  attributes.recv_cq = &cq;
  attributes.qp_type = IBV_QPT_RC;
  attributes.cap.max_send_wr = sizes.sends;
  attributes.cap.max_recv_wr = sizes.receives;
  attributes.cap.max_send_sge = sizes.pieces;
  attributes.cap.max_recv_sge = 1;
  attributes.cap.max_inline_data = sizes.inlined;
  return api.create_qp(&pd, &attributes);
}

}  // namespace

OurLimits agree_limits(const Options& options, const ibv_device_attr& device, const PeerLimits& peer) {
  return {.initiator_depth = std::max<uint8_t>(
              1, least(options.max_outbound_reads, device.max_qp_init_rd_atom, peer.initiator_depth)),
          .responder_resources =
              least(options.max_inbound_reads, device.max_qp_rd_atom, peer.responder_resources)};
}

QueueSizes wanted_sizes(const Options& options, const ibv_device_attr& device, const OurLimits& limits) {
  return {.sends = within(options.max_send_work + limits.initiator_depth, device.max_qp_wr),
          .receives = within(options.max_receive_work, device.max_qp_wr),
          .pieces = within(kMaxPieces, device.max_sge),
          .inlined = kInlineBytes};
}

shm::Result<NewQueuePair> create_queue_pair(const Device::Seat& seat, ibv_pd& pd, const QueueSizes& wanted) {
  QueueSizes half = wanted;
  half.inlined = 0;
  const QueueSizes plain = half;
  half.sends = std::max<uint32_t>(2, wanted.sends / 2);
  half.pieces = std::min<uint32_t>(4, wanted.pieces);
  int error = 0;
  for (const QueueSizes& sizes : {wanted, plain, half}) {
    ibv_qp_init_attr got;
    QpHandle qp = own(seat.device().api(), ask(seat.device().api(), pd, seat.cq(), sizes, got));
    if (qp == nullptr) {
      error = errno;
      continue;
    }
    // Devices round up; what was not asked for is not in the completion queue's books.
    return NewQueuePair{.qp = std::move(qp),
                        .sizes = {.sends = std::min(sizes.sends, got.cap.max_send_wr),
                                  .receives = std::min(sizes.receives, got.cap.max_recv_wr),
                                  .pieces = std::min(sizes.pieces, got.cap.max_send_sge),
                                  .inlined = std::min(sizes.inlined, got.cap.max_inline_data)}};
  }
  return shm::fail(std::string("ibv_create_qp on ") + seat.device().name(), error);
}

void apply_policy(CmLink::QpAttributes& attributes, RemoteAccess access, const OurLimits& limits,
                  bool connecting) {
  ibv_qp_attr& values = attributes.attributes;
  if ((attributes.mask & IBV_QP_ACCESS_FLAGS) != 0) {
    switch (access) {
      case RemoteAccess::none:
        values.qp_access_flags = 0;
        break;
      case RemoteAccess::write:
        values.qp_access_flags = IBV_ACCESS_REMOTE_WRITE;
        break;
      case RemoteAccess::read_and_write:
        values.qp_access_flags = IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_WRITE;
        break;
    }
  }
  // Before it has accepted, the connection manager only knows what the peer asked for.
  const auto limit = [connecting](uint8_t theirs, uint8_t ours) {
    return connecting ? std::min(theirs, ours) : ours;
  };
  if ((attributes.mask & IBV_QP_MAX_DEST_RD_ATOMIC) != 0) {
    values.max_dest_rd_atomic = limit(values.max_dest_rd_atomic, limits.responder_resources);
  }
  if ((attributes.mask & IBV_QP_MAX_QP_RD_ATOMIC) != 0) {
    values.max_rd_atomic = limit(values.max_rd_atomic, limits.initiator_depth);
  }
}

}  // namespace smbdirect::workers::fabric::verbs
