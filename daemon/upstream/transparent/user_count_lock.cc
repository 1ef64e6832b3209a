// SPDX-License-Identifier: MIT
#include "daemon/upstream/transparent/user_count_lock.h"

#include <cerrno>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace smbdirect::daemon {
namespace {

constexpr off_t kMutexByte = 0;
constexpr off_t kUsersByte = 1;
// The holder makes one attempt to set up or take away; that takes a second where a firewall drops the test
// connection.
constexpr int kTries = 100;
constexpr useconds_t kTryMicroseconds = 50'000;

struct flock byte_lock(short type, off_t byte) {
  struct flock lock{};  // l_pid must be 0 for the locks of an open file
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  lock.l_start = byte;
  lock.l_len = 1;
  return lock;
}

}  // namespace

shm::Result<UserCountLock> UserCountLock::open(const std::string& directory, const std::string& name) {
  if (mkdir(directory.c_str(), 0755) != 0 && errno != EEXIST) {
    return shm::fail("make the directory " + directory, errno);
  }
  std::string path = directory + "/" + name;
  // Opened for writing, so that only processes that may write the file can hold its locks.
  shm::UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!fd.valid()) return shm::fail("open the lock file " + path, errno);
  return UserCountLock(std::move(fd), std::move(path));
}

shm::Result<> UserCountLock::lock() {
  for (int attempt = 0; attempt < kTries; ++attempt) {
    auto mutex = byte_lock(F_WRLCK, kMutexByte);
    if (fcntl(fd_.get(), F_OFD_SETLK, &mutex) == 0) return {};
    if (errno != EAGAIN && errno != EACCES) return shm::fail("lock " + path_, errno);
    usleep(kTryMicroseconds);
  }
  return shm::fail("lock " + path_ + ": another smbdirectd holds the lock and does not release it (\"fuser " +
                   path_ + "\" shows its process)");
}

void UserCountLock::unlock() {
  auto mutex = byte_lock(F_UNLCK, kMutexByte);
  fcntl(fd_.get(), F_OFD_SETLK, &mutex);
}

shm::Result<> UserCountLock::join() {
  auto user = byte_lock(F_RDLCK, kUsersByte);
  if (fcntl(fd_.get(), F_OFD_SETLK, &user) != 0) return shm::fail("lock " + path_, errno);
  return {};
}

bool UserCountLock::alone() const {
  // Would the whole byte be ours? Our own shared lock is no obstacle to the question.
  auto others = byte_lock(F_WRLCK, kUsersByte);
  return fcntl(fd_.get(), F_OFD_GETLK, &others) == 0 && others.l_type == F_UNLCK;
}

}  // namespace smbdirect::daemon
