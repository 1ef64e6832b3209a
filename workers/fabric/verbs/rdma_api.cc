// SPDX-License-Identifier: MIT
#include "workers/fabric/verbs/rdma_api.h"

namespace smbdirect::workers::fabric::verbs {

rdma_event_channel* SystemRdma::create_event_channel() { return ::rdma_create_event_channel(); }
void SystemRdma::destroy_event_channel(rdma_event_channel* channel) { ::rdma_destroy_event_channel(channel); }
int SystemRdma::get_cm_event(rdma_event_channel* channel, rdma_cm_event** event) {
  return ::rdma_get_cm_event(channel, event);
}
int SystemRdma::ack_cm_event(rdma_cm_event* event) { return ::rdma_ack_cm_event(event); }
int SystemRdma::create_id(rdma_event_channel* channel, rdma_cm_id** id, void* context,
                          rdma_port_space space) {
  return ::rdma_create_id(channel, id, context, space);
}
int SystemRdma::destroy_id(rdma_cm_id* id) { return ::rdma_destroy_id(id); }
int SystemRdma::bind_addr(rdma_cm_id* id, sockaddr* address) { return rdma_bind_addr(id, address); }
int SystemRdma::resolve_addr(rdma_cm_id* id, sockaddr* from, sockaddr* to, int timeout_ms) {
  return ::rdma_resolve_addr(id, from, to, timeout_ms);
}
int SystemRdma::resolve_route(rdma_cm_id* id, int timeout_ms) { return ::rdma_resolve_route(id, timeout_ms); }
int SystemRdma::init_qp_attr(rdma_cm_id* id, ibv_qp_attr* attributes, int* mask) {
  return ::rdma_init_qp_attr(id, attributes, mask);
}
int SystemRdma::connect(rdma_cm_id* id, rdma_conn_param* parameters) {
  return ::rdma_connect(id, parameters);
}
int SystemRdma::establish(rdma_cm_id* id) { return ::rdma_establish(id); }
int SystemRdma::disconnect(rdma_cm_id* id) { return ::rdma_disconnect(id); }
uint64_t SystemRdma::get_device_guid(ibv_device* device) { return ::ibv_get_device_guid(device); }

}  // namespace smbdirect::workers::fabric::verbs
