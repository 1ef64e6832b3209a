// SPDX-License-Identifier: MIT
// How a connection comes up: find the device, make the queue pair, agree.
#include <algorithm>
#include <utility>

#include "workers/fabric/verbs/endpoint.h"

namespace smbdirect::workers::fabric::verbs {

void VerbsEndpoint::start() {
  if (phase_ != Phase::idle) return;
  phase_ = Phase::resolving;
  arm(options_.handshake_timeout_ms);
  link_->start(*this);
}

void VerbsEndpoint::on_resolved(const PeerLimits& peer) {
  if (phase_ != Phase::resolving) return;
  phase_ = Phase::connecting;
  auto done = make_queue_pair(peer);
  if (done) done = answer();
  if (!done) setup_failed(done.error().text());
}

shm::Result<> VerbsEndpoint::make_queue_pair(const PeerLimits& peer) {
  const auto opened = devices_.open(link_->device().node_guid, options_);
  if (!opened) return std::unexpected(opened.error());
  Device& device = **opened;
  description_ = std::string("verbs ") + device.name() + " " + link_->description();

  limits_ = agree_limits(options_, device.attributes(), peer);
  if (device.is_iwarp()) {
    limits_.initiator_depth = std::min<uint8_t>(limits_.initiator_depth, ReadSink::kMostSlots);
  }
  const QueueSizes wanted = wanted_sizes(options_, device.attributes(), limits_);
  auto seat = device.take_seat(*this, wanted.sends + wanted.receives);
  if (!seat) return std::unexpected(seat.error());
  seat_ = std::move(*seat);
  if (auto chosen = choose_domain(device); !chosen) return chosen;
  auto made = create_queue_pair(*seat_, domain_->pd(), wanted);
  if (!made) return std::unexpected(made.error());
  qp_ = std::move(made->qp);

  const QueueSizes& sizes = made->sizes;
  if (sizes.sends < 2) return shm::fail("the device's send queue is too small");
  if (!receives_.set_limit(sizes.receives)) return shm::fail("the device's receive queue is too small");
  const uint32_t reads = std::min<uint32_t>(limits_.initiator_depth, sizes.sends / 2);
  attributes_.max_send_work = std::min(options_.max_send_work, sizes.sends - reads);
  attributes_.max_receive_work = std::min(options_.max_receive_work, sizes.receives);
  attributes_.max_send_sge = sizes.pieces;
  attributes_.max_outbound_reads = reads;
  if (device.is_iwarp()) {
    auto sink = ReadSink::create(*domain_, reads);
    if (!sink) return std::unexpected(sink.error());
    sink_ = std::move(*sink);
  }
  sends_.set_limits({.work = attributes_.max_send_work,
                     .reads = reads,
                     .pieces = sizes.pieces,
                     .inlined = sizes.inlined,
                     .max_message = device.max_message(link_->device().port),
                     .sink = sink_.get()});
  return {};
}

/// Whether the peer can reach into memory that is registered where this connection's is.
shm::Result<> VerbsEndpoint::choose_domain(Device& device) {
  if (side_ == Side::accepting && !device.is_iwarp()) {
    const auto shared = device.shared_domain();
    if (!shared) return std::unexpected(shared.error());
    domain_ = *shared;
    return {};
  }
  auto own = MrTable::create(device.api(), device.context(), device.arena());
  if (!own) return std::unexpected(own.error());
  own_domain_ = std::move(*own);
  domain_ = own_domain_.get();
  return {};
}

shm::Result<> VerbsEndpoint::enter(ibv_qp_state state) {
  auto attributes = link_->qp_attributes(state);
  if (!attributes) return std::unexpected(attributes.error());
  if (attributes->mask == 0) return {};
  const bool connecting = side_ == Side::connecting;
  const RemoteAccess access = connecting                   ? RemoteAccess::read_and_write
                              : seat_->device().is_iwarp() ? RemoteAccess::write
                                                           : RemoteAccess::none;
  apply_policy(*attributes, access, limits_, connecting);
  const int error = seat_->device().api().modify_qp(qp_.get(), &attributes->attributes, attributes->mask);
  if (error == 0) return {};
  return shm::fail("ibv_modify_qp to state " + std::to_string(static_cast<int>(state)), error);
}

shm::Result<> VerbsEndpoint::answer() {
  if (auto done = enter(IBV_QPS_INIT); !done) return done;
  // Before the peer can know of us: its first message may come before anything else does.
  if (auto posted = receives_.post(*seat_, *qp_, *domain_); !posted) return posted;
  if (side_ == Side::connecting) return link_->connect(qp_->qp_num, limits_);
  for (const ibv_qp_state state : {IBV_QPS_RTR, IBV_QPS_RTS}) {
    if (auto done = enter(state); !done) return done;
  }
  return link_->accept(qp_->qp_num, limits_);
}

void VerbsEndpoint::on_accepted(const PeerLimits& peer) {
  if (phase_ != Phase::connecting || side_ != Side::connecting) return;
  if (peer.initiator_depth != 0 && peer.initiator_depth < attributes_.max_outbound_reads) {
    attributes_.max_outbound_reads = peer.initiator_depth;
    sends_.set_reads(peer.initiator_depth);
  }
  for (const ibv_qp_state state : {IBV_QPS_RTR, IBV_QPS_RTS}) {
    if (auto done = enter(state); !done) return setup_failed(done.error().text());
  }
  if (auto done = link_->establish(); !done) setup_failed(done.error().text());
}

void VerbsEndpoint::on_established() { establish(); }

void VerbsEndpoint::establish() {
  if (phase_ != Phase::connecting || close_) return;  // it broke in the meantime
  phase_ = Phase::established;
  timer_.stop();
  handler_.on_established();
}

}  // namespace smbdirect::workers::fabric::verbs
