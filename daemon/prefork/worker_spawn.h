// SPDX-License-Identifier: MIT
// Starts a worker process as contract.h says: fork and exec, exactly the contract's descriptors, a session of
// its own (child_process.h). No parent-death signal: workers outlive the supervisor on purpose. Supervisor
// only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <sys/types.h>

#include "shm/base/result.h"

namespace smbdirect::daemon {

struct SpawnRequest {
  std::string program;
  size_t slot = 0;
  uint32_t generation = 0;
  int control_fd = -1;                  // becomes kControlFd
  int config_fd = -1;                   // becomes kConfigFd
  int handover_fd = -1;                 // becomes kHandoverFd; -1: none
  std::optional<unsigned> processor{};  // that it runs on; nothing: any
};

/// Returns when the program has been executed. The error names the program and exec's reason.
[[nodiscard]] shm::Result<pid_t> spawn_worker(const SpawnRequest& request);

}  // namespace smbdirect::daemon
