// SPDX-License-Identifier: MIT
// libibverbs, call for call, so that tests can replace the device. There is no logic here: names, arguments
// and results are the library's (man ibv_open_device and so on). Results of int are an errno or 0, pointers
// are null with errno set, and where the library returns -1 with errno, so does this. Stateless; owned by the
// fabric object that uses it and outlives its devices; the loop's thread only. Verbs objects belong to the
// process that made them and end with it.
#pragma once

#include <cstddef>
#include <cstdint>

#include <infiniband/verbs.h>

namespace smbdirect::workers::fabric::verbs {

class VerbsApi {
 public:
  VerbsApi() = default;
  VerbsApi(const VerbsApi&) = delete;
  VerbsApi& operator=(const VerbsApi&) = delete;
  virtual ~VerbsApi() = default;

  // --- devices ---
  virtual ibv_device** get_device_list(int* count) = 0;
  virtual void free_device_list(ibv_device** list) = 0;
  virtual uint64_t get_device_guid(ibv_device* device) = 0;
  virtual ibv_context* open_device(ibv_device* device) = 0;
  virtual int close_device(ibv_context* context) = 0;
  virtual int query_device(ibv_context* context, ibv_device_attr* attributes) = 0;
  virtual int query_port(ibv_context* context, uint8_t port, ibv_port_attr* attributes) = 0;
  virtual int get_async_event(ibv_context* context, ibv_async_event* event) = 0;
  virtual void ack_async_event(ibv_async_event* event) = 0;
  /// Not the library's: whether the device's file is still offered (device.h says what that tells).
  virtual bool is_present(const ibv_device* device) = 0;

  // --- memory ---
  virtual ibv_pd* alloc_pd(ibv_context* context) = 0;
  virtual int dealloc_pd(ibv_pd* pd) = 0;
  virtual ibv_mr* reg_mr(ibv_pd* pd, void* address, size_t length, int access) = 0;
  virtual int dereg_mr(ibv_mr* mr) = 0;

  // --- completions ---
  virtual ibv_comp_channel* create_comp_channel(ibv_context* context) = 0;
  virtual int destroy_comp_channel(ibv_comp_channel* channel) = 0;
  virtual ibv_cq* create_cq(ibv_context* context, int entries, void* cq_context, ibv_comp_channel* channel,
                            int vector) = 0;
  virtual int destroy_cq(ibv_cq* cq) = 0;
  virtual int req_notify_cq(ibv_cq* cq, int solicited_only) = 0;
  virtual int get_cq_event(ibv_comp_channel* channel, ibv_cq** cq, void** cq_context) = 0;
  virtual void ack_cq_events(ibv_cq* cq, unsigned count) = 0;
  virtual int poll_cq(ibv_cq* cq, int entries, ibv_wc* wc) = 0;

  // --- queue pairs ---
  virtual ibv_qp* create_qp(ibv_pd* pd, ibv_qp_init_attr* attributes) = 0;
  virtual int destroy_qp(ibv_qp* qp) = 0;
  virtual int modify_qp(ibv_qp* qp, ibv_qp_attr* attributes, int mask) = 0;
  virtual int post_send(ibv_qp* qp, ibv_send_wr* first, ibv_send_wr** bad) = 0;
  virtual int post_recv(ibv_qp* qp, ibv_recv_wr* first, ibv_recv_wr** bad) = 0;
};

/// Has the library look for devices, which loads all their drivers at the first time: many files, for which
/// no connection's set-up should wait, and which a process that gives up rights later may not reach any more.
void load_drivers(VerbsApi& api);

/// The library itself.
class SystemVerbs final : public VerbsApi {
 public:
  ibv_device** get_device_list(int* count) override;
  void free_device_list(ibv_device** list) override;
  uint64_t get_device_guid(ibv_device* device) override;
  ibv_context* open_device(ibv_device* device) override;
  int close_device(ibv_context* context) override;
  int query_device(ibv_context* context, ibv_device_attr* attributes) override;
  int query_port(ibv_context* context, uint8_t port, ibv_port_attr* attributes) override;
  int get_async_event(ibv_context* context, ibv_async_event* event) override;
  void ack_async_event(ibv_async_event* event) override;
  bool is_present(const ibv_device* device) override;
  ibv_pd* alloc_pd(ibv_context* context) override;
  int dealloc_pd(ibv_pd* pd) override;
  ibv_mr* reg_mr(ibv_pd* pd, void* address, size_t length, int access) override;
  int dereg_mr(ibv_mr* mr) override;
  ibv_comp_channel* create_comp_channel(ibv_context* context) override;
  int destroy_comp_channel(ibv_comp_channel* channel) override;
  ibv_cq* create_cq(ibv_context* context, int entries, void* cq_context, ibv_comp_channel* channel,
                    int vector) override;
  int destroy_cq(ibv_cq* cq) override;
  int req_notify_cq(ibv_cq* cq, int solicited_only) override;
  int get_cq_event(ibv_comp_channel* channel, ibv_cq** cq, void** cq_context) override;
  void ack_cq_events(ibv_cq* cq, unsigned count) override;
  int poll_cq(ibv_cq* cq, int entries, ibv_wc* wc) override;
  ibv_qp* create_qp(ibv_pd* pd, ibv_qp_init_attr* attributes) override;
  int destroy_qp(ibv_qp* qp) override;
  int modify_qp(ibv_qp* qp, ibv_qp_attr* attributes, int mask) override;
  int post_send(ibv_qp* qp, ibv_send_wr* first, ibv_send_wr** bad) override;
  int post_recv(ibv_qp* qp, ibv_recv_wr* first, ibv_recv_wr** bad) override;
};

}  // namespace smbdirect::workers::fabric::verbs
