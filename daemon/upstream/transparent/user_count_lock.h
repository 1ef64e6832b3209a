// SPDX-License-Identifier: MIT
// Counts the supervisors that share a resource of the host, so that the last one can remove it: a lock file
// with a mutex (byte 0) and a shared lock of each user (byte 1). Owned by the object that sets the resource
// up. The kernel releases the locks of a process that dies, so the count is never stale; the file itself
// stays.
#pragma once

#include <string>

#include "shm/base/result.h"
#include "shm/base/unique_fd.h"

namespace smbdirect::daemon {

class UserCountLock {
 public:
  /// Makes the file and its directory where they are missing.
  [[nodiscard]] static shm::Result<UserCountLock> open(const std::string& directory, const std::string& name);

  /// Waits for the mutex, some seconds at most. Held until unlock() or the end of the object.
  [[nodiscard]] shm::Result<> lock();
  void unlock();
  /// Counts this process, until the end of the object.
  [[nodiscard]] shm::Result<> join();
  /// Whether no other process is counted. Stays true while the mutex is held.
  [[nodiscard]] bool alone() const;

 private:
  UserCountLock(shm::UniqueFd fd, std::string path) : fd_(std::move(fd)), path_(std::move(path)) {}
  shm::UniqueFd fd_;
  std::string path_;
};

}  // namespace smbdirect::daemon
