// SPDX-License-Identifier: MIT
// Which processes are a native server's: its registered main process, what that has started, and whom these
// may hand a channel over to, which is whoever runs as the main process's user. A worker's word for who
// serves a client counts only for one of these, and never for one of our own: a worker that a client has
// taken over would name itself, and be passed the client's next connections. It cannot start another process
// to name (workers/process/confinement.h). Reads /proc; the supervisor.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <sys/types.h>

#include "shm/base/result.h"

namespace smbdirect::daemon {

/// What the kernel says of a process.
struct ProcessFacts {
  uint64_t start_time = 0;  // 0: hidden from us, with all that follows
  pid_t parent = 0;
  uid_t user = 0;  // real
};
/// No process is an answer, an error is that it cannot be told.
[[nodiscard]] shm::Result<std::optional<ProcessFacts>> look_at_process(pid_t pid);

/// Why a process is not the server's; null: it is.
struct ServerProcesses {
  pid_t main = 0;                                 // 0: none is registered
  std::function<bool(pid_t)> is_ours;             // the supervisor and its workers
  std::function<decltype(look_at_process)> look;  // for tests

  [[nodiscard]] const char* objection_to(pid_t pid) const;
};

}  // namespace smbdirect::daemon
