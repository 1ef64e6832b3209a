// SPDX-License-Identifier: MIT
#include "daemon/accept/incoming_rdma.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "shm/base/log.h"

namespace smbdirect::daemon {

IncomingRdma::IncomingRdma(RdmaCm& listeners, const CmEvent& request) : listeners_(listeners) {
  const CmParameters& parameters = request.parameters;
  request_ = {.id = request.id,
              .responder_resources = parameters.responder_resources,
              .initiator_depth = parameters.initiator_depth,
              .private_data_length = parameters.private_data_length};
  const auto bytes = parameters.private_bytes();
  std::ranges::copy(bytes.first(std::min(bytes.size(), CmRequest::kPrivateBytes)),
                    request_.private_data.begin());
}

IncomingRdma::~IncomingRdma() {
  if (take_back() != TakenBack::ours) return;
  // The reject fails if the client has given up meanwhile; the id is destroyed in any case.
  [[maybe_unused]] const auto told = listeners_.reject(request_.id);
  if (const auto destroyed = listeners_.destroy(request_.id); !destroyed) {
    shm::log::write(shm::log::Level::warning, "cannot discard a connection request that no worker took: %s",
                    destroyed.error().text().c_str());
  }
}

shm::Result<> IncomingRdma::prepare(RdmaCm* handover, message::Offer& offer) {
  if (handover == nullptr)
    return shm::fail("the worker has no RDMA connection manager file to hand the request to", ENODEV);
  if (const auto moved = handover->migrate(request_.id, listeners_.fd()); !moved) return moved;
  handover_ = handover;
  offer.fabric = Fabric::verbs;
  offer.cm = request_;
  return {};
}

TakenBack IncomingRdma::take_back() {
  if (where_ != TakenBack::ours || handover_ == nullptr) return where_;
  RdmaCm* handover = std::exchange(handover_, nullptr);
  const auto moved = listeners_.migrate(request_.id, handover->fd());
  if (moved) return where_;
  // On a third file: the worker's own. Anything else ends the request where it is.
  where_ = moved.error().system_errno == EINVAL ? TakenBack::workers : TakenBack::gone;
  if (where_ == TakenBack::gone) [[maybe_unused]]
    const auto destroyed = handover->destroy(request_.id);
  return where_;
}

}  // namespace smbdirect::daemon
