// SPDX-License-Identifier: MIT
// Verbs objects with one owner. A destroy call fails only if something still uses the object, which is a bug
// in the order of destruction: it is logged, and the object stays until the process ends. The loop's thread
// only.
#pragma once

#include <memory>
#include <string>

#include "shm/base/result.h"
#include "workers/fabric/verbs/verbs_api.h"

namespace smbdirect::workers::fabric::verbs {

/// "ibv_destroy_qp failed: Device or resource busy", as an error.
void log_destroy_failure(const char* call, int system_errno);

template <auto Destroy>
struct VerbsDeleter {
  VerbsApi* api{};
  const char* call = "";

  template <class T>
  void operator()(T* object) const {
    if (const int error = (api->*Destroy)(object); error != 0) log_destroy_failure(call, error);
  }
};

using ContextHandle = std::unique_ptr<ibv_context, VerbsDeleter<&VerbsApi::close_device>>;
using PdHandle = std::unique_ptr<ibv_pd, VerbsDeleter<&VerbsApi::dealloc_pd>>;
using MrHandle = std::unique_ptr<ibv_mr, VerbsDeleter<&VerbsApi::dereg_mr>>;
using ChannelHandle = std::unique_ptr<ibv_comp_channel, VerbsDeleter<&VerbsApi::destroy_comp_channel>>;
using CqHandle = std::unique_ptr<ibv_cq, VerbsDeleter<&VerbsApi::destroy_cq>>;
using QpHandle = std::unique_ptr<ibv_qp, VerbsDeleter<&VerbsApi::destroy_qp>>;

/// For shm::Watched (shm/loop/watched.h).
[[nodiscard]] inline int descriptor_of(const ContextHandle& context) { return context->async_fd; }
[[nodiscard]] inline int descriptor_of(const ChannelHandle& channel) { return channel->fd; }

[[nodiscard]] inline ContextHandle own(VerbsApi& api, ibv_context* context) {
  return {context, {&api, "ibv_close_device"}};
}
[[nodiscard]] inline PdHandle own(VerbsApi& api, ibv_pd* pd) { return {pd, {&api, "ibv_dealloc_pd"}}; }
[[nodiscard]] inline MrHandle own(VerbsApi& api, ibv_mr* mr) { return {mr, {&api, "ibv_dereg_mr"}}; }
[[nodiscard]] inline ChannelHandle own(VerbsApi& api, ibv_comp_channel* channel) {
  return {channel, {&api, "ibv_destroy_comp_channel"}};
}
[[nodiscard]] inline CqHandle own(VerbsApi& api, ibv_cq* cq) { return {cq, {&api, "ibv_destroy_cq"}}; }
[[nodiscard]] inline QpHandle own(VerbsApi& api, ibv_qp* qp) { return {qp, {&api, "ibv_destroy_qp"}}; }

}  // namespace smbdirect::workers::fabric::verbs
