// SPDX-License-Identifier: MIT
// A librdmacm that delivers the events the test wants, and holds its user to the library's rules: events are
// acknowledged once and not looked at afterwards, and before their id is destroyed; ids go before their
// channel.
#pragma once

#include <cerrno>
#include <cstring>
#include <deque>
#include <map>
#include <string>
#include <sys/eventfd.h>
#include <vector>

#include <doctest/doctest.h>

#include "shm/base/socket_address.h"
#include "shm/base/unique_fd.h"
#include "workers/fabric/verbs/connect_link.h"
#include "workers/fabric/verbs/rdma_api.h"

namespace verbs_test {

namespace shm = smbdirect::shm;
namespace verbs = smbdirect::workers::fabric::verbs;
using verbs::ConnectLink;

class FakeRdma final : public verbs::RdmaApi {
 public:
  ~FakeRdma() override {
    CHECK(channels == 0);
    CHECK(ids == 0);
    CHECK(unacknowledged == 0);
  }
  rdma_event_channel* create_event_channel() override {
    if (refuses("create_event_channel")) return nullptr;
    ++channels;
    channel.fd = readable.get();
    return &channel;
  }
  void destroy_event_channel(rdma_event_channel* which) override {
    CHECK(which == &channel);
    CHECK(ids == 0);  // an id goes before its channel
    --channels;
  }
  int get_cm_event(rdma_event_channel* /*which*/, rdma_cm_event** event) override {
    if (refuses("get_cm_event")) return -1;
    if (events.empty()) {
      eventfd_t value = 0;
      (void)eventfd_read(readable.get(), &value);
      errno = EAGAIN;
      return -1;
    }
    current = events.front();
    events.pop_front();
    ++unacknowledged;
    *event = &current;
    return 0;
  }
  int ack_cm_event(rdma_cm_event* event) override {
    CHECK(event == &current);
    --unacknowledged;
    std::memset(&current, 0xee, sizeof current);  // as if freed
    return 0;
  }
  int create_id(rdma_event_channel* /*which*/, rdma_cm_id** out, void* user, rdma_port_space space) override {
    CHECK(space == RDMA_PS_TCP);
    if (refuses("create_id")) return -1;
    ++ids;
    *out = ids == 1 ? &id : &probe;
    (*out)->context = user;
    return 0;
  }
  int destroy_id(rdma_cm_id* which) override {
    if (which == &probe) return --ids, 0;
    CHECK(which == &id);
    CHECK(unacknowledged == 0);  // the library would wait for ever
    --ids;
    ++destroyed;
    events.clear();
    return 0;
  }
  int bind_addr(rdma_cm_id* which, sockaddr* address) override {
    CHECK(which == &probe);
    sockaddr_storage asked{};
    std::memcpy(&asked, address, sizeof(sockaddr_in));
    CHECK(shm::address_text(asked) == "192.0.2.7:0");
    return refuses("bind_addr") ? -1 : 0;
  }
  int resolve_addr(rdma_cm_id* /*which*/, sockaddr* from, sockaddr* to, int timeout_ms) override {
    if (refuses("resolve_addr")) return -1;
    CHECK(timeout_ms == ConnectLink::kResolveTimeoutMs);
    std::memcpy(&id.route.addr.dst_storage, to, sizeof(sockaddr_in));
    const auto chosen = *shm::address_from_text("192.0.2.7", 40000);
    std::memcpy(&id.route.addr.src_storage,
                from != nullptr ? from : reinterpret_cast<const sockaddr*>(&chosen), sizeof(sockaddr_in));
    calls.push_back(from != nullptr ? "resolve_addr from" : "resolve_addr");
    return 0;
  }
  int resolve_route(rdma_cm_id* /*which*/, int timeout_ms) override {
    CHECK(timeout_ms == ConnectLink::kResolveTimeoutMs);
    return note("resolve_route");
  }
  int init_qp_attr(rdma_cm_id* /*which*/, ibv_qp_attr* attributes, int* mask) override {
    if (refuses("init_qp_attr")) return -1;
    attributes->dest_qp_num = 0x77;
    *mask = IBV_QP_STATE | IBV_QP_DEST_QPN;
    return 0;
  }
  int connect(rdma_cm_id* which, rdma_conn_param* parameters) override {
    CHECK(which->qp == nullptr);
    connected = *parameters;
    private_data.assign(static_cast<const char*>(parameters->private_data), parameters->private_data_len);
    return note("connect");
  }
  int establish(rdma_cm_id* /*which*/) override { return note("establish"); }
  int disconnect(rdma_cm_id* /*which*/) override { return note("disconnect"); }
  uint64_t get_device_guid(ibv_device* which) override {
    CHECK(which == &device);
    return 0xabcd;
  }

  void deliver(int type, int status) {
    rdma_cm_event event{};
    event.id = &id;
    std::memcpy(&event.event, &type, sizeof type);
    event.status = status;
    event.param.conn.initiator_depth = 9;
    event.param.conn.responder_resources = 3;
    events.push_back(event);
    wake();
  }
  void wake() { CHECK(eventfd_write(readable.get(), 1) == 0); }
  void set_device(bool iwarp) {
    device.transport_type = iwarp ? IBV_TRANSPORT_IWARP : IBV_TRANSPORT_IB;
    verbs_context.device = &device;
    id.verbs = &verbs_context;
    id.port_num = 2;
  }

  std::map<std::string, int> errors;  // call -> errno
  std::vector<std::string> calls;
  int channels = 0, ids = 0, destroyed = 0, unacknowledged = 0;
  rdma_conn_param connected{};
  std::string private_data;
  std::deque<rdma_cm_event> events;
  rdma_cm_id id{};
  rdma_cm_id probe{};  // a second one, made while there is the first

 private:
  bool refuses(const char* call) {
    const auto error = errors.find(call);
    if (error == errors.end()) return false;
    errno = error->second;
    return true;
  }
  int note(const char* call) {
    if (refuses(call)) return -1;
    calls.emplace_back(call);
    return 0;
  }
  shm::UniqueFd readable{::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)};
  rdma_event_channel channel{};
  ibv_device device{};
  ibv_context verbs_context{};
  rdma_cm_event current{};
};

}  // namespace verbs_test
