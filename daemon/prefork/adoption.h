// SPDX-License-Identifier: MIT
// How a supervisor finds the workers that a former one left: it binds a listening socket for each of its own
// workers to RUN_DIRECTORY/workers/PID.EPOCH and sends it to that worker (contract.h, ADOPTION_SOCKET). A
// later supervisor connects to what it finds there. A worker answers only once it is alone, so connections to
// the workers of a supervisor that lives simply wait, and are ended by its workers' ends. The directory is
// ours alone; nothing but a worker has its socket, so the process of that number is the worker as long as
// there is an answer. Owned by the pool of workers, in the supervisor; when that dies the names stay, which
// is what they are for.
#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <optional>
#include <string>
#include <sys/types.h>

#include "shm/base/result.h"
#include "shm/base/unique_fd.h"
#include "shm/loop/borrowed_watch.h"
#include "shm/loop/loop.h"

namespace smbdirect::daemon {

/// A worker without a supervisor, that has said LEFT.
struct LeftWorker {
  pid_t pid = -1;
  shm::UniqueFd process;  // pidfd
  shm::UniqueFd control;
};

class Adoption {
 public:
  using Adopt = std::function<void(LeftWorker left)>;
  Adoption(shm::Loop& loop, const std::string& run_directory, Adopt adopt);
  ~Adoption();
  Adoption(const Adoption&) = delete;
  Adoption& operator=(const Adoption&) = delete;

  /// Before the first socket_of(). Those found are adopted from the loop, at any later time.
  [[nodiscard]] shm::Result<> find();
  /// What the worker is to listen at.
  [[nodiscard]] shm::Result<shm::UniqueFd> socket_of(pid_t worker);
  /// The worker has ended.
  void forget(pid_t worker);
  /// Tells an administrator what becomes of a worker that is left and stays so.
  static void not_adopted(pid_t worker, const std::string& why);
  /// Nobody is adopted from now on.
  void close() { waiting_.clear(); }
  /// Connections are numbered from here on, so that those of workers that others started have other numbers.
  [[nodiscard]] uint64_t first_connection() const { return epoch_ * kConnectionsPerEpoch + 1; }

 private:
  struct Waiting {
    pid_t pid;
    std::string path;
    shm::UniqueFd process;
    shm::UniqueFd control;
    std::optional<shm::ReadWatch> answers;  // after control: it must go first
  };
  static constexpr uint64_t kConnectionsPerEpoch = 1'000'000'000;  // more than there will be

  [[nodiscard]] shm::Result<> approach(pid_t worker, const std::string& path);
  void answered(std::list<Waiting>::iterator waiting);

  shm::Loop& loop_;
  std::string directory_;
  Adopt adopt_;
  uint64_t epoch_ = 0;  // greater than that of all that were found
  std::map<pid_t, std::string> paths_;
  std::list<Waiting> waiting_;
};

}  // namespace smbdirect::daemon
