// SPDX-License-Identifier: MIT
#include "workers/fabric/verbs/accept_link.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include <rdma/ib_user_verbs.h>

#include "shm/base/log.h"
#include "shm/base/socket_address.h"
#include "workers/fabric/verbs/qp_attributes.h"

namespace smbdirect::workers::fabric::verbs {

namespace log = shm::log;
using daemon::CmEventType;

AcceptLink::AcceptLink(AcceptFile& file, uint32_t id, const daemon::CmParameters& request)
    : file_(file), id_(id), cookie_(file.add(*this)), request_(request), resolve_(file.loop(), [this] {
        resolve();
      }) {}

AcceptLink::~AcceptLink() {
  file_.remove(cookie_);
  // Fails when the device is gone and has taken the id with it.
  if (const auto destroyed = file_.cm().destroy(id_); !destroyed) {
    log::write(log::Level::debug, "%s: %s", description_.c_str(), destroyed.error().text().c_str());
  }
}

void AcceptLink::start(Observer& observer) {
  observer_ = &observer;
  resolve_.trigger();
}

void AcceptLink::resolve() {
  if (state_ != State::taken) return;
  const auto found = file_.cm().query(id_);
  if (!found) {
    fail(found.error().text());
    return;
  }
  local_ = found->local;
  description_ = shm::address_text(found->local) + " <- " + shm::address_text(found->peer);
  if (found->node_guid == 0) {
    fail("its RDMA device is gone");
    return;
  }
  device_ = {.node_guid = found->node_guid, .port = found->port};
  const auto initial = qp_attributes(IBV_QPS_INIT);
  if (!initial) {
    fail(initial.error().text());
    return;
  }
  iwarp_ = is_iwarp(*initial);
  client_limits_ = parse_ird_ord(request_.private_bytes(), iwarp_);
  PeerLimits limits{.initiator_depth = request_.initiator_depth,
                    .responder_resources = request_.responder_resources};
  if (client_limits_) {
    if (!acceptable(*client_limits_)) {
      fail("the client allows no RDMA READs: its private data has IRD " +
           std::to_string(client_limits_->ird) + " and ORD " + std::to_string(client_limits_->ord));
      return;
    }
    limits = tightened(limits, *client_limits_);
  }
  state_ = State::resolved;
  observer_->on_resolved(limits);
}

shm::Result<CmLink::QpAttributes> AcceptLink::qp_attributes(ibv_qp_state state) {
  if (iwarp_ && state != IBV_QPS_INIT) return QpAttributes{};
  ib_uverbs_qp_attr kernel{};
  const auto got = file_.cm().qp_attributes(id_, state, kernel);
  if (!got) return std::unexpected(got.error());
  return from_kernel(kernel, state);
}

shm::Result<> AcceptLink::accept(uint32_t qp_num, const OurLimits& limits) {
  if (state_ != State::resolved)
    return shm::fail("accept " + description_ + ": the request is not open", EINVAL);
  const OurLimits said = iwarp_ ? at_least_one(limits) : limits;
  daemon::CmParameters answer;
  answer.qp_num = qp_num;
  answer.initiator_depth = said.initiator_depth;
  answer.responder_resources = said.responder_resources;
  // The peer's sends find no receive posted only if it breaks the credits' rules: then it shall fail.
  answer.rnr_retry_count = 0;
  if (client_limits_) {
    const auto bytes = ird_ord_bytes(answer_to(*client_limits_, said));
    std::ranges::copy(bytes, answer.private_data.begin());
    answer.private_data_length = static_cast<uint8_t>(bytes.size());
  }
  // Before the call: on iWARP the connection is up when it returns.
  state_ = State::accepting;
  const auto accepted = file_.cm().accept(id_, cookie_, answer);
  if (!accepted) state_ = State::over;
  return accepted;
}

shm::Result<> AcceptLink::connect(uint32_t /*qp_num*/, const OurLimits& /*limits*/) {
  return shm::fail("connect " + description_ + ": this is the accepting side", EINVAL);
}

shm::Result<> AcceptLink::establish() {
  return shm::fail("establish " + description_ + ": this is the accepting side", EINVAL);
}

shm::Result<> AcceptLink::disconnect() { return file_.cm().disconnect(id_); }

/// A new id finds the device at the connection's address, or does not.
bool AcceptLink::device_in_doubt() {
  const auto id = file_.cm().create(0);
  if (!id) return false;
  sockaddr_storage local = local_;
  shm::set_port(local, 0);
  const auto bound = file_.cm().bind(*id, local);
  (void)file_.cm().destroy(*id);
  return !bound && bound.error().system_errno == ENODEV;
}

void AcceptLink::on_event(const daemon::CmEvent& event) {
  if (observer_ == nullptr) return;
  switch (event.type) {
    case CmEventType::established:
      if (state_ != State::accepting) break;
      state_ = State::established;
      observer_->on_established();
      return;
    case CmEventType::disconnected:
      // It may come with no established before it: the client's last word of the set-up was lost.
      ended("the client gave up while the connection was set up");
      return;
    case CmEventType::rejected:
      ended("the client rejected the connection after it was accepted");
      return;
    case CmEventType::unreachable:
      ended("the client does not answer");
      return;
    case CmEventType::connect_error:
      ended("the connection could not be set up");
      return;
    case CmEventType::device_removal:
      state_ = State::over;
      observer_->on_device_removed();
      return;
    case CmEventType::addr_change:
      // The device keeps the connection; if its path breaks, the queue pair says so.
      log::write(log::Level::notice, "%s: the address has moved to another device", description_.c_str());
      return;
    case CmEventType::timewait_exit:
      return;                            // the numbers of an ended connection are free again
    case CmEventType::connect_request:   // of listening ids
    case CmEventType::connect_response:  // of the connecting side, like the next four
    case CmEventType::addr_resolved:
    case CmEventType::addr_error:
    case CmEventType::route_resolved:
    case CmEventType::route_error:
    case CmEventType::multicast_join:  // of datagrams
    case CmEventType::multicast_error:
      break;
  }
  log::write(log::Level::debug, "%s: event %s (%u) not expected here", description_.c_str(),
             std::string(daemon::cm_event_name(event.type)).c_str(), static_cast<unsigned>(event.type));
}

void AcceptLink::on_file_lost(const std::string& why) {
  if (observer_ == nullptr) return;
  ended(why.c_str());
}

void AcceptLink::ended(const char* how) {
  if (state_ == State::established) {
    state_ = State::over;
    observer_->on_disconnected();
  } else if (state_ != State::over) {
    fail(how);
  }
}

void AcceptLink::fail(std::string detail) {
  state_ = State::over;
  observer_->on_failed(CloseCause::setup_failed, std::move(detail));
}

}  // namespace smbdirect::workers::fabric::verbs
