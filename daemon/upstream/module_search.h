// SPDX-License-Identifier: MIT
// Finds, for the other end of a TCP stream to smbd, the process of this host that has it, and connects to the
// module that listens there (protocol/proxy/smbdirect_area.h). Owned by ModuleRequests; the supervisor's
// thread. When it dies, smbds see nothing of it.
//
// Only processes that have a socket in the directory are looked into, a few at a time, so that the loop never
// waits for long and never spends much of its time here, however many there are, whatever they have open and
// however much is asked. A round looks into all of them, those that are new first, and serves all that wait:
// what it does not find that was wanted when it began is not there. What it saw is remembered, and looked at
// again before it is used.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <sys/types.h>
#include <vector>

#include "daemon/os/process_streams.h"
#include "shm/base/log.h"
#include "shm/base/result.h"
#include "shm/base/unique_fd.h"
#include "shm/loop/loop.h"

namespace smbdirect::daemon {

class ModuleSearch {
 public:
  /// The link, or an error: ENOENT, there is no module for this; EPERM, who listens is not trusted; ...
  using Done = std::function<void(shm::Result<shm::UniqueFd>)>;

  ModuleSearch(shm::Loop& loop, const std::string& directory);

  /// wanted: the end that the process has. done: from the loop, never within this call; it may ask for more.
  [[nodiscard]] uint64_t find(const TcpStream& wanted, Done done);
  void cancel(uint64_t number) { waiting_.erase(number); }
  /// Since the start.
  [[nodiscard]] uint64_t processes_looked_into() const { return looked_into_; }

 private:
  struct Holder {
    pid_t process = 0;
    int number = -1;
  };
  struct Waiting {
    TcpStream wanted;
    Done done;
    uint64_t since = 0;  // the round that had begun then
  };

  void step();
  void begin_round();
  void end_round();
  void look_into(pid_t process);
  void forget(pid_t process);
  [[nodiscard]] bool answer_known();
  void answer_these(const std::vector<uint64_t>& found);
  void run_again(uint64_t after_ms);
  void answer(uint64_t number, shm::Result<shm::UniqueFd> result);
  void answer_all(const shm::Error& error);
  [[nodiscard]] shm::Result<shm::UniqueFd> connect_to(const Holder& holder, const TcpStream& stream) const;

  shm::Loop& loop_;
  const std::string& directory_;
  std::map<uint64_t, Waiting> waiting_;
  uint64_t last_ = 0;
  uint64_t round_ = 0;
  bool in_round_ = false;
  std::vector<pid_t> left_;  // of this round, the last one first
  std::map<TcpStream, Holder> known_;
  std::map<pid_t, std::vector<TcpStream>> seen_;  // the same by process
  std::string not_seen_;                          // why some process of this round could not be looked into
  uint64_t looked_into_ = 0;
  shm::log::Limited log_;
  shm::Timer timer_;
  bool runs_ = false;  // the timer
};

}  // namespace smbdirect::daemon
