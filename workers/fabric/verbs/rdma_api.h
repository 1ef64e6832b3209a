// SPDX-License-Identifier: MIT
// librdmacm, call for call, so that tests can replace the connection manager. There is no logic here: names,
// arguments and results are the library's (man rdma_cm): -1 or null with errno set. Stateless; owned by the
// connector and outlives its links; the loop's thread only.
#pragma once

#include <cstdint>

#include <infiniband/verbs.h>
#include <rdma/rdma_cma.h>

namespace smbdirect::workers::fabric::verbs {

class RdmaApi {
 public:
  RdmaApi() = default;
  RdmaApi(const RdmaApi&) = delete;
  RdmaApi& operator=(const RdmaApi&) = delete;
  virtual ~RdmaApi() = default;

  virtual rdma_event_channel* create_event_channel() = 0;
  virtual void destroy_event_channel(rdma_event_channel* channel) = 0;
  virtual int get_cm_event(rdma_event_channel* channel, rdma_cm_event** event) = 0;
  virtual int ack_cm_event(rdma_cm_event* event) = 0;

  virtual int create_id(rdma_event_channel* channel, rdma_cm_id** id, void* context,
                        rdma_port_space space) = 0;
  virtual int destroy_id(rdma_cm_id* id) = 0;
  virtual int bind_addr(rdma_cm_id* id, sockaddr* address) = 0;
  virtual int resolve_addr(rdma_cm_id* id, sockaddr* from, sockaddr* to, int timeout_ms) = 0;
  virtual int resolve_route(rdma_cm_id* id, int timeout_ms) = 0;
  virtual int init_qp_attr(rdma_cm_id* id, ibv_qp_attr* attributes, int* mask) = 0;
  virtual int connect(rdma_cm_id* id, rdma_conn_param* parameters) = 0;
  virtual int establish(rdma_cm_id* id) = 0;
  virtual int disconnect(rdma_cm_id* id) = 0;

  /// libibverbs' ibv_get_device_guid(), of the device the library has opened for an id.
  virtual uint64_t get_device_guid(ibv_device* device) = 0;
};

/// The library itself.
class SystemRdma final : public RdmaApi {
 public:
  rdma_event_channel* create_event_channel() override;
  void destroy_event_channel(rdma_event_channel* channel) override;
  int get_cm_event(rdma_event_channel* channel, rdma_cm_event** event) override;
  int ack_cm_event(rdma_cm_event* event) override;
  int create_id(rdma_event_channel* channel, rdma_cm_id** id, void* context, rdma_port_space space) override;
  int destroy_id(rdma_cm_id* id) override;
  int bind_addr(rdma_cm_id* id, sockaddr* address) override;
  int resolve_addr(rdma_cm_id* id, sockaddr* from, sockaddr* to, int timeout_ms) override;
  int resolve_route(rdma_cm_id* id, int timeout_ms) override;
  int init_qp_attr(rdma_cm_id* id, ibv_qp_attr* attributes, int* mask) override;
  int connect(rdma_cm_id* id, rdma_conn_param* parameters) override;
  int establish(rdma_cm_id* id) override;
  int disconnect(rdma_cm_id* id) override;
  uint64_t get_device_guid(ibv_device* device) override;
};

}  // namespace smbdirect::workers::fabric::verbs
