// SPDX-License-Identifier: MIT
#include "workers/fabric/verbs/verbs_api.h"

#include <cerrno>
#include <unistd.h>

namespace smbdirect::workers::fabric::verbs {

void load_drivers(VerbsApi& api) {
  int count = 0;
  if (ibv_device** list = api.get_device_list(&count); list != nullptr) api.free_device_list(list);
}

ibv_device** SystemVerbs::get_device_list(int* count) { return ibv_get_device_list(count); }
void SystemVerbs::free_device_list(ibv_device** list) { ibv_free_device_list(list); }
uint64_t SystemVerbs::get_device_guid(ibv_device* device) { return ibv_get_device_guid(device); }
ibv_context* SystemVerbs::open_device(ibv_device* device) { return ibv_open_device(device); }
int SystemVerbs::close_device(ibv_context* context) { return ibv_close_device(context); }
int SystemVerbs::query_device(ibv_context* context, ibv_device_attr* attributes) {
  return ibv_query_device(context, attributes);
}
int SystemVerbs::query_port(ibv_context* context, uint8_t port, ibv_port_attr* attributes) {
  return ibv_query_port(context, port, attributes);
}
int SystemVerbs::get_async_event(ibv_context* context, ibv_async_event* event) {
  return ibv_get_async_event(context, event);
}
void SystemVerbs::ack_async_event(ibv_async_event* event) { ibv_ack_async_event(event); }
bool SystemVerbs::is_present(const ibv_device* device) {
  return ::access(device->dev_path, F_OK) == 0 || errno != ENOENT;
}

ibv_pd* SystemVerbs::alloc_pd(ibv_context* context) { return ibv_alloc_pd(context); }
int SystemVerbs::dealloc_pd(ibv_pd* pd) { return ibv_dealloc_pd(pd); }
ibv_mr* SystemVerbs::reg_mr(ibv_pd* pd, void* address, size_t length, int access) {
  return ibv_reg_mr(pd, address, length, access);
}
int SystemVerbs::dereg_mr(ibv_mr* mr) { return ibv_dereg_mr(mr); }

ibv_comp_channel* SystemVerbs::create_comp_channel(ibv_context* context) {
  return ibv_create_comp_channel(context);
}
int SystemVerbs::destroy_comp_channel(ibv_comp_channel* channel) { return ibv_destroy_comp_channel(channel); }
ibv_cq* SystemVerbs::create_cq(ibv_context* context, int entries, void* cq_context, ibv_comp_channel* channel,
                               int vector) {
  return ibv_create_cq(context, entries, cq_context, channel, vector);
}
int SystemVerbs::destroy_cq(ibv_cq* cq) { return ibv_destroy_cq(cq); }
int SystemVerbs::req_notify_cq(ibv_cq* cq, int solicited_only) {
  return ibv_req_notify_cq(cq, solicited_only);
}
int SystemVerbs::get_cq_event(ibv_comp_channel* channel, ibv_cq** cq, void** cq_context) {
  return ibv_get_cq_event(channel, cq, cq_context);
}
void SystemVerbs::ack_cq_events(ibv_cq* cq, unsigned count) { ibv_ack_cq_events(cq, count); }
int SystemVerbs::poll_cq(ibv_cq* cq, int entries, ibv_wc* wc) { return ibv_poll_cq(cq, entries, wc); }

ibv_qp* SystemVerbs::create_qp(ibv_pd* pd, ibv_qp_init_attr* attributes) {
  return ibv_create_qp(pd, attributes);
}
int SystemVerbs::destroy_qp(ibv_qp* qp) { return ibv_destroy_qp(qp); }
int SystemVerbs::modify_qp(ibv_qp* qp, ibv_qp_attr* attributes, int mask) {
  return ibv_modify_qp(qp, attributes, mask);
}
int SystemVerbs::post_send(ibv_qp* qp, ibv_send_wr* first, ibv_send_wr** bad) {
  return ibv_post_send(qp, first, bad);
}
int SystemVerbs::post_recv(ibv_qp* qp, ibv_recv_wr* first, ibv_recv_wr** bad) {
  return ibv_post_recv(qp, first, bad);
}

}  // namespace smbdirect::workers::fabric::verbs
