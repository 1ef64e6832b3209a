// SPDX-License-Identifier: MIT
// What the connection manager says a queue pair must be set to, from the kernel's form to libibverbs'. Pure.
#pragma once

#include "workers/fabric/verbs/cm_link.h"

struct ib_uverbs_qp_attr;  // rdma/ib_user_verbs.h

namespace smbdirect::workers::fabric::verbs {

/// kernel: what it said for `state`.
[[nodiscard]] CmLink::QpAttributes from_kernel(const ib_uverbs_qp_attr& kernel, ibv_qp_state state);

/// Attributes of INIT tell the fabrics apart: InfiniBand and RoCE set the port there, iWARP has none to set.
[[nodiscard]] inline bool is_iwarp(const CmLink::QpAttributes& initial) {
  return (initial.mask & IBV_QP_PORT) == 0;
}

}  // namespace smbdirect::workers::fabric::verbs
