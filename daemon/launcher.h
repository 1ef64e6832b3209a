// SPDX-License-Identifier: MIT
// Whoever started the daemon (an init system, a script, a Samba daemon that starts its helpers): the
// descriptors it gave us, what it is told when the daemon listens, and the pipe that says that it has gone.
// Owned by the supervisor, which alone uses it. A launcher that has gone is no reason not to serve, unless it
// asked for that (--parent-watch-fd).
#pragma once

#include "daemon/options.h"
#include "shm/base/result.h"
#include "shm/base/unique_fd.h"

namespace smbdirect::daemon {

class Launcher {
 public:
  /// Nobody to tell or to watch.
  Launcher() = default;
  /// Takes the descriptors of the command line over and closes every other one above 2: what a launcher left
  /// open by mistake could be its own end of the pipe that we watch. The error is one of the command line.
  [[nodiscard]] static shm::Result<Launcher> take(const CommandLine& line);

  /// That waits for us to listen: the caller that went on in the foreground of -D.
  void also_tells(shm::UniqueFd waiting) { waiting_ = std::move(waiting); }
  /// The daemon listens.
  void ready();
  /// Readable when the daemon is to stop; not valid where nobody is watched.
  [[nodiscard]] shm::UniqueFd take_parent() { return std::move(parent_); }
  /// To the daemon that started us to take its place (--take-over-fd); not valid where none did.
  [[nodiscard]] shm::UniqueFd take_former() { return std::move(former_); }

 private:
  shm::UniqueFd newline_;         // --ready-fd
  shm::UniqueFd process_number_;  // --ready-signal-fd: a pid_t, as samba-bgqd writes it
  shm::UniqueFd waiting_;         // a byte
  shm::UniqueFd parent_;
  shm::UniqueFd former_;
};

}  // namespace smbdirect::daemon
