// SPDX-License-Identifier: MIT
#include "daemon/prefork/worker_spawn.h"

#include <unistd.h>

#include "daemon/contract/contract.h"
#include "daemon/os/child_process.h"

namespace smbdirect::daemon {

shm::Result<pid_t> spawn_worker(const SpawnRequest& request) {
  static_assert(kControlFd == 3 && kConfigFd == 4 && kHandoverFd == 5);
  ChildRequest child{.program = request.program,
                     .arguments = {"--slot", std::to_string(request.slot), "--generation",
                                   std::to_string(request.generation)},
                     .descriptors = {ChildRequest::kNull, STDERR_FILENO, STDERR_FILENO, request.control_fd,
                                     request.config_fd},
                     .processor = request.processor};
  if (request.handover_fd >= 0) child.descriptors.push_back(request.handover_fd);
  return start_child(child);
}

}  // namespace smbdirect::daemon
