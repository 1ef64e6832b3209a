// SPDX-License-Identifier: MIT
// One `smbd -i`: it serves one connection, its descriptor 0, or passes it to the smbd that has the client
// already and ends. Owned by HandoffConnector. Its exit status is ignored (it ends its own process group with
// a signal, and ends early when it has passed the stream on); only the stream tells whether the client is
// served.
//
// It is reaped as soon as it ends, because other clients would wait for the locks of a zombie. When the
// supervisor is killed it keeps serving its client. What it prints is logged.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <sys/types.h>
#include <vector>

#include "daemon/os/line_splitter.h"
#include "shm/base/result.h"
#include "shm/base/unique_fd.h"
#include "shm/loop/borrowed_watch.h"
#include "shm/loop/loop.h"

namespace smbdirect::daemon {

struct SmbdCommand {
  std::string program;
  std::string smb_conf;  // empty: Samba's own default
  std::string
      pid_directory;  // of ours alone: at its end smbd removes the pid file it finds there, whosever it is

  [[nodiscard]] std::vector<std::string> arguments() const;
};

class SpawnedSmbd {
 public:
  /// stream: the server's end of the connection. client: for the log. ended: when it has been reaped; may
  /// destroy this.
  [[nodiscard]] static shm::Result<std::unique_ptr<SpawnedSmbd>> start(shm::Loop& loop,
                                                                       const SmbdCommand& command,
                                                                       shm::UniqueFd stream,
                                                                       std::string client,
                                                                       std::function<void()> ended);
  /// One that still runs is killed and waited for.
  ~SpawnedSmbd();
  SpawnedSmbd(const SpawnedSmbd&) = delete;
  SpawnedSmbd& operator=(const SpawnedSmbd&) = delete;

  /// To it and what it has started.
  void signal(int number);
  /// Has it ended? Reaps it. For the end of everything, when no loop runs any more.
  [[nodiscard]] bool try_reap();
  [[nodiscard]] pid_t pid() const { return pid_; }

 private:
  SpawnedSmbd(std::string client, std::function<void()> ended);
  [[nodiscard]] shm::Result<> watch(shm::Loop& loop);
  void read_output();
  void process_ended();

  std::string client_;
  std::function<void()> ended_;
  pid_t pid_ = -1;  // -1: reaped
  std::string name_;
  LineSplitter lines_;
  shm::UniqueFd output_;
  shm::UniqueFd process_;                       // pidfd
  std::optional<shm::ReadWatch> output_watch_;  // after the descriptors: gone before they are closed
  std::optional<shm::ReadWatch> process_watch_;
};

}  // namespace smbdirect::daemon
