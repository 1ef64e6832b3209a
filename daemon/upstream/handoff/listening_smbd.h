// SPDX-License-Identifier: MIT
// Does the listening smbd run, which one is it, and when does it end? It runs while it holds the lock on its
// pid file; the kernel releases the lock when the process ends, so the answer is never stale. Supervisor, its
// loop's thread.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <sys/types.h>

#include "shm/base/result.h"
#include "shm/base/unique_fd.h"
#include "shm/loop/borrowed_watch.h"
#include "shm/loop/loop.h"

namespace smbdirect::daemon {

class ListeningSmbd {
 public:
  /// ended: the smbd that find() found last has ended. Once for each.
  ListeningSmbd(shm::Loop& loop, const std::string& pid_directory, std::function<void()> ended);

  /// Its pid, watched from now on. An error that says what to do when it does not run. If an smbd of ours
  /// would serve other things than this one, the log says so, once for each.
  [[nodiscard]] shm::Result<pid_t> find();

 private:
  [[nodiscard]] shm::Result<pid_t> holder() const;

  shm::Loop& loop_;
  std::string pid_file_;
  std::function<void()> ended_;
  pid_t pid_ = -1;
  shm::UniqueFd process_;                // pidfd
  std::optional<shm::ReadWatch> watch_;  // after process_: gone before it is closed
};

}  // namespace smbdirect::daemon
