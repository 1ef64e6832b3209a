// SPDX-License-Identifier: MIT
// The limits of SMB Direct as the pool file has them. The supervisor knows no SMB Direct, so WorkerConfig has
// its own defaults: they are those of the protocol, and a test holds them to it. Pure; the worker.
#pragma once

#include "daemon/contract/worker_config.h"
#include "protocol/smbdirect/limits.h"

namespace smbdirect::workers {

[[nodiscard]] inline protocol::smb_direct::Limits limits_of(const daemon::WorkerConfig& config) {
  return {.receive_credit_initial = config.receive_credit_initial,
          .receive_credit_max = config.receive_credit_max,
          .send_credit_target = config.send_credit_target,
          .max_send_size = config.max_send_size,
          .max_receive_size = config.max_receive_size,
          .max_fragmented_size = config.max_fragmented_size,
          .max_read_write_size = config.max_read_write_size,
          .negotiate_timeout = config.negotiate_timeout_ms,
          .idle_timeout = config.idle_timeout_ms,
          .keepalive_timeout = config.keepalive_timeout_ms,
          .send_credit_timeout = config.send_credit_timeout_ms};
}
}  // namespace smbdirect::workers
