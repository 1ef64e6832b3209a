// SPDX-License-Identifier: MIT
// Starts another program: fork and exec, with exactly the descriptors it is to have, default signal
// dispositions, nothing blocked, in a session of its own (a terminal's ^C is for the supervisor, which then
// ends its children in order; and a child that signals its process group does not reach us). No parent-death
// signal. The caller reaps the process. Supervisor only, which may have threads: between fork and exec there
// are async-signal-safe calls only.
#pragma once

#include <array>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <sys/types.h>
#include <vector>

#include "shm/base/result.h"
#include "shm/base/unique_fd.h"

namespace smbdirect::daemon {

struct ChildRequest {
  static constexpr int kNull = -1;  // /dev/null

  std::string program;                    // a path
  std::vector<std::string> arguments;     // after the program's name
  std::vector<int> descriptors;           // become 0, 1, 2, ...; at most kMostDescriptors, at least three
  std::vector<std::string_view> keeps{};  // of kPrivateVariables: what it is told in our place
  /// That it runs on, if there is such a one now; nothing: any.
  std::optional<unsigned> processor{};
};
inline constexpr size_t kMostDescriptors = 16;
/// What the init system tells us and nobody else: a child has none of these.
inline constexpr std::array<std::string_view, 5> kPrivateVariables{
    "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID"};

/// Returns when the program has been executed. The error names the program and exec's reason.
[[nodiscard]] shm::Result<pid_t> start_child(const ChildRequest& request);

/// A pidfd: readable once the process has ended, and never another process's.
[[nodiscard]] shm::Result<shm::UniqueFd> open_process(pid_t pid);
/// Sends a signal to the process of a pidfd; to no other, whatever has its number now.
void signal_process(const shm::UniqueFd& process, int signal);

}  // namespace smbdirect::daemon
