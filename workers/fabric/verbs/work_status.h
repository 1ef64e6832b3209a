// SPDX-License-Identifier: MIT
// The reason for the end of a connection that the status of a failed work completion gives. A pure function.
#pragma once

#include <string>

#include <infiniband/verbs.h>

#include "workers/fabric/fabric.h"
#include "workers/fabric/verbs/work_id.h"

namespace smbdirect::workers::fabric::verbs {

/// Not for IBV_WC_WR_FLUSH_ERR, which only says that the queue pair was in error already.
[[nodiscard]] inline Close close_for(ibv_wc_status status, WorkKind kind) {
  const char* work = kind == WorkKind::receive ? "a receive"
                     : kind == WorkKind::read  ? "an RDMA READ"
                                               : "a SEND or RDMA WRITE";
  std::string detail = std::string(work) + " failed: " + ibv_wc_status_str(status);
  switch (status) {
    case IBV_WC_REM_INV_REQ_ERR:
    case IBV_WC_REM_ACCESS_ERR:
    case IBV_WC_REM_OP_ERR:
    case IBV_WC_REM_INV_RD_REQ_ERR:
    case IBV_WC_REM_ABORT_ERR:
      return {CloseCause::peer_terminate, std::move(detail)};
    case IBV_WC_RETRY_EXC_ERR:      // the peer's device does not answer
    case IBV_WC_RNR_RETRY_EXC_ERR:  // the peer had no receive posted
    case IBV_WC_RESP_TIMEOUT_ERR:
      return {CloseCause::peer_reset, std::move(detail)};
    default:
      // Among them IBV_WC_LOC_LEN_ERR: a message longer than the receive. The others are the device's.
      return {CloseCause::protocol_error, std::move(detail)};
  }
}

}  // namespace smbdirect::workers::fabric::verbs
