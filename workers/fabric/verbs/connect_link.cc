// SPDX-License-Identifier: MIT
#include "workers/fabric/verbs/connect_link.h"

#include <cerrno>
#include <cstring>
#include <utility>

#include "shm/base/log.h"
#include "shm/base/socket_address.h"
#include "workers/fabric/verbs/connect_causes.h"
#include "workers/fabric/verbs/private_data.h"

namespace smbdirect::workers::fabric::verbs {

namespace {

namespace log = shm::log;

constexpr uint8_t kRetries = 6;  // as Linux's and Windows' SMB Direct clients ask for

sockaddr* as_sockaddr(sockaddr_storage& address) { return reinterpret_cast<sockaddr*>(&address); }

}  // namespace

shm::Result<EventChannel> open_channel(RdmaApi& api) {
  EventChannel channel(api.create_event_channel(), DestroyEventChannel{&api});
  if (channel == nullptr) {
    const int error = errno;
    return shm::fail(std::string("open the RDMA connection manager") +
                         (error == ENODEV || error == ENOENT
                              ? " (is there an RDMA device? \"rdma link\" lists them; modprobe rdma_ucm)"
                          : error == EACCES ? " (/dev/infiniband must be accessible to this user)"
                                            : ""),
                     error);
  }
  return channel;
}

shm::Result<std::unique_ptr<ConnectLink>> ConnectLink::make(RdmaApi& api, uv_loop_t& loop,
                                                            const sockaddr_storage& to,
                                                            const std::optional<sockaddr_storage>& from) {
  auto channel = open_channel(api);
  if (!channel) return std::unexpected(channel.error());
  std::unique_ptr<ConnectLink> link(new ConnectLink(api, loop, std::move(*channel), to, from));
  rdma_cm_id* id = nullptr;
  if (api.create_id(link->channel_.owner().get(), &id, link.get(), RDMA_PS_TCP) != 0) {
    return shm::fail("make an RDMA connection to " + shm::address_text(to), errno);
  }
  link->id_.reset(id);
  return link;
}

// Watching the channel makes it non-blocking.
ConnectLink::ConnectLink(RdmaApi& api, uv_loop_t& loop, EventChannel channel, const sockaddr_storage& to,
                         const std::optional<sockaddr_storage>& from)
    : api_(api),
      to_(to),
      from_(from),
      channel_(loop, std::move(channel), [this](int, int status) { read_events(status); }),
      id_(nullptr, DestroyId{&api}),
      step_(loop, [this] { step(); }),
      description_("-> " + shm::address_text(to)) {}

shm::Error ConnectLink::failed(const char* call) const {
  return {refused_call_text(call, errno, shm::address_text(to_)), 0};
}

void ConnectLink::start(Observer& observer) {
  observer_ = &observer;
  step_.trigger();
}

/// What must come from the loop: the beginning, and the end of the set-up.
void ConnectLink::step() {
  if (state_ == State::idle) {
    state_ = State::resolving_address;
    channel_.want(UV_READABLE);
    sockaddr* from = from_ ? as_sockaddr(*from_) : nullptr;
    if (api_.resolve_addr(id_.get(), from, as_sockaddr(to_), kResolveTimeoutMs) != 0) {
      fail(failed("rdma_resolve_addr").text());
    }
  } else if (state_ == State::establishing) {
    state_ = State::established;
    observer_->on_established();
  }
}

shm::Result<CmLink::QpAttributes> ConnectLink::qp_attributes(ibv_qp_state state) {
  if (iwarp_ && state != IBV_QPS_INIT) return QpAttributes{};
  QpAttributes out;
  out.attributes.qp_state = state;
  if (api_.init_qp_attr(id_.get(), &out.attributes, &out.mask) != 0) {
    return std::unexpected(failed("rdma_init_qp_attr"));
  }
  return out;
}

shm::Result<> ConnectLink::accept(uint32_t /*qp_num*/, const OurLimits& /*limits*/) {
  return shm::fail("accept " + description_ + ": this is the connecting side", EINVAL);
}

shm::Result<> ConnectLink::connect(uint32_t qp_num, const OurLimits& limits) {
  if (state_ != State::resolved) return shm::fail("connect " + description_ + ": not now", EINVAL);
  const OurLimits said = iwarp_ ? at_least_one(limits) : limits;
  const auto bytes = ird_ord_bytes({.ird = said.responder_resources, .ord = said.initiator_depth});
  rdma_conn_param parameters{};
  if (iwarp_) {
    // The server's answer to it can only repeat what the kernel tells us with on_accepted().
    parameters.private_data = bytes.data();
    parameters.private_data_len = static_cast<uint8_t>(bytes.size());
  }
  parameters.responder_resources = said.responder_resources;
  parameters.initiator_depth = said.initiator_depth;
  parameters.retry_count = kRetries;
  parameters.rnr_retry_count = 0;  // credits see to it that a receive is posted
  parameters.qp_num = qp_num;
  if (api_.connect(id_.get(), &parameters) != 0) {
    state_ = State::over;
    return std::unexpected(failed("rdma_connect"));
  }
  state_ = State::connecting;
  return {};
}

shm::Result<> ConnectLink::establish() {
  if (state_ != State::accepted) return shm::fail("establish " + description_ + ": not now", EINVAL);
  // On iWARP the connection was up before the server's answer was delivered.
  if (!iwarp_ && api_.establish(id_.get()) != 0) {
    state_ = State::over;
    return std::unexpected(failed("rdma_establish"));
  }
  state_ = State::establishing;
  step_.trigger();
  return {};
}

shm::Result<> ConnectLink::disconnect() {
  if (api_.disconnect(id_.get()) == 0) return {};
  return std::unexpected(failed("rdma_disconnect"));
}

/// A new id finds the device at the connection's address, or does not.
bool ConnectLink::device_in_doubt() {
  rdma_cm_id* raw = nullptr;
  if (api_.create_id(channel_.owner().get(), &raw, nullptr, RDMA_PS_TCP) != 0) return false;
  const Id id(raw, DestroyId{&api_});
  sockaddr_storage local = id_->route.addr.src_storage;
  shm::set_port(local, 0);
  return api_.bind_addr(id.get(), as_sockaddr(local)) != 0 && errno == ENODEV;
}

void ConnectLink::read_events(int status) {
  for (;;) {
    rdma_cm_event* got = nullptr;
    if (api_.get_cm_event(channel_.owner().get(), &got) != 0) {
      const bool none = errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
      if (none && status >= 0) return;
      if (none) errno = -status;
      channel_.want(0);
      ended(failed("rdma_get_cm_event").text());
      return;
    }
    Event event{.type = 0, .status = got->status, .limits = {}};
    static_assert(sizeof event.type == sizeof got->event);
    std::memcpy(&event.type, &got->event,
                sizeof event.type);  // a later kernel's would be no value of the enum
    if (event.type == RDMA_CM_EVENT_CONNECT_RESPONSE || event.type == RDMA_CM_EVENT_ESTABLISHED) {
      event.limits = {.initiator_depth = got->param.conn.initiator_depth,
                      .responder_resources = got->param.conn.responder_resources};
    }
    (void)api_.ack_cm_event(got);
    on_event(event);
  }
}

void ConnectLink::on_address() {
  if (id_->verbs == nullptr) {
    fail("no RDMA device reaches " + shm::address_text(to_));
    return;
  }
  iwarp_ = id_->verbs->device->transport_type == IBV_TRANSPORT_IWARP;
  device_ = {.node_guid = api_.get_device_guid(id_->verbs->device), .port = id_->port_num};
  description_ = shm::address_text(id_->route.addr.src_storage) + " -> " + shm::address_text(to_);
  state_ = State::resolving_route;
  if (api_.resolve_route(id_.get(), kResolveTimeoutMs) != 0) {
    fail(failed("rdma_resolve_route").text());
  }
}

void ConnectLink::on_event(const Event& event) {
  switch (event.type) {
    case RDMA_CM_EVENT_ADDR_RESOLVED:
      if (state_ == State::resolving_address) on_address();
      return;
    case RDMA_CM_EVENT_ROUTE_RESOLVED:
      if (state_ != State::resolving_route) return;
      state_ = State::resolved;
      observer_->on_resolved({});  // the server has said nothing yet
      return;
    case RDMA_CM_EVENT_CONNECT_RESPONSE:  // InfiniBand and RoCE: the server waits for establish()
    case RDMA_CM_EVENT_ESTABLISHED:       // iWARP
      if (state_ != State::connecting) return;
      state_ = State::accepted;
      observer_->on_accepted(event.limits);
      return;
    case RDMA_CM_EVENT_ADDR_ERROR:
    case RDMA_CM_EVENT_ROUTE_ERROR:
    case RDMA_CM_EVENT_CONNECT_ERROR:
    case RDMA_CM_EVENT_UNREACHABLE:
    case RDMA_CM_EVENT_REJECTED:
    case RDMA_CM_EVENT_DISCONNECTED:
      ended(failure_text(static_cast<rdma_cm_event_type>(event.type), event.status, shm::address_text(to_)));
      return;
    case RDMA_CM_EVENT_DEVICE_REMOVAL:
      state_ = State::over;
      observer_->on_device_removed();
      return;
    case RDMA_CM_EVENT_ADDR_CHANGE:
      // The device keeps the connection; if its path breaks, the queue pair says so.
      log::write(log::Level::notice, "%s: the address has moved to another device", description_.c_str());
      return;
    case RDMA_CM_EVENT_TIMEWAIT_EXIT:
      return;                            // the numbers of an ended connection are free again
    case RDMA_CM_EVENT_CONNECT_REQUEST:  // of listening ids
    case RDMA_CM_EVENT_MULTICAST_JOIN:   // of datagrams
    case RDMA_CM_EVENT_MULTICAST_ERROR:
    default:  // what later releases of rdma-core add
      break;
  }
  log::write(log::Level::debug, "%s: event %d not expected here", description_.c_str(), event.type);
}

void ConnectLink::ended(std::string how) {
  if (state_ == State::established) {
    state_ = State::over;
    observer_->on_disconnected();
  } else if (state_ != State::over) {
    fail(std::move(how));
  }
}

void ConnectLink::fail(std::string detail) {
  state_ = State::over;
  observer_->on_failed(CloseCause::setup_failed, std::move(detail));
}

}  // namespace smbdirect::workers::fabric::verbs
