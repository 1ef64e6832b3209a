// SPDX-License-Identifier: MIT
// Which processes belong to a native server: its registered main process, the descendants of that, and
// processes of the same user, to which these may hand channels over. When a worker reports the process that
// serves a client, only such a process counts, and never one of smbdirectd's own: a worker that a client has
// taken over could otherwise name itself and receive the client's next connections. It cannot start another
// process to name (workers/process/confinement.h). Reads /proc; the supervisor.
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
/// nullopt: there is no such process. An error: this cannot be determined.
[[nodiscard]] shm::Result<std::optional<ProcessFacts>> look_at_process(pid_t pid);

/// Why a process is not the server's; null: it is.
struct ServerProcesses {
  pid_t main = 0;                                 // 0: none is registered
  std::function<bool(pid_t)> is_ours;             // the supervisor and its workers
  std::function<decltype(look_at_process)> look;  // for tests

  [[nodiscard]] const char* objection_to(pid_t pid) const;
};

}  // namespace smbdirect::daemon
