// SPDX-License-Identifier: MIT
#include "workers/fabric/verbs/qp_attributes.h"

#include <rdma/ib_user_verbs.h>

// Exported by libibverbs (IBVERBS_1.0) for librdmacm; its header, infiniband/marshall.h, is not packaged
// everywhere.
extern "C" void ibv_copy_qp_attr_from_kern(ibv_qp_attr* to, const ib_uverbs_qp_attr* from);

namespace smbdirect::workers::fabric::verbs {

namespace {

// Kernel-internal attributes of RoCE (source MAC and VLAN), which older kernels let through although their
// values have no place in what userspace gets; librdmacm masks them as well.
constexpr uint32_t kKernelOnly = 0x1e00000;

}  // namespace

CmLink::QpAttributes from_kernel(const ib_uverbs_qp_attr& kernel, ibv_qp_state state) {
  CmLink::QpAttributes out;
  ibv_copy_qp_attr_from_kern(&out.attributes, &kernel);
  out.attributes.qp_state = state;  // the one field it leaves to its caller
  out.mask = static_cast<int>(kernel.qp_attr_mask & ~kKernelOnly);
  return out;
}

}  // namespace smbdirect::workers::fabric::verbs
