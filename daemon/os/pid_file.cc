// SPDX-License-Identifier: MIT
#include "daemon/os/pid_file.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <fcntl.h>
#include <string>
#include <string_view>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>
#include <utility>

namespace smbdirect::daemon {
namespace {

std::string content(const shm::UniqueFd& file) {
  std::array<char, 32> text{};
  const ssize_t got = pread(file.get(), text.data(), text.size() - 1, 0);
  const std::string_view all(text.data(), size_t(std::max<ssize_t>(got, 0)));
  const std::string_view digits = all.substr(0, all.find_first_not_of("0123456789"));
  return digits.empty() ? "another process" : "process " + std::string(digits);
}

/// Of this opening of the file, not of the process: whoever else reads the file here does not undo it.
shm::Result<> lock(const shm::UniqueFd& file, const std::string& what) {
  struct flock whole{};
  whole.l_type = F_WRLCK;
  whole.l_whence = SEEK_SET;
  if (fcntl(file.get(), F_OFD_SETLK, &whole) == 0) return {};
  if (errno != EAGAIN && errno != EACCES) return shm::fail(what + ": lock", errno);
  return shm::fail(what + " is held by " + content(file) +
                   ": the daemon runs already; stop it, or name another file (--pid-file)");
}

/// Its former holder removes it when it ends, perhaps after we opened it.
bool still_there(const std::string& path, const shm::UniqueFd& file) {
  struct stat named{};
  struct stat held{};
  return stat(path.c_str(), &named) == 0 && fstat(file.get(), &held) == 0 && named.st_dev == held.st_dev &&
         named.st_ino == held.st_ino;
}

}  // namespace

shm::Result<PidFile> PidFile::hold(const std::string& path) {
  const std::string what = "pid file '" + path + "'";
  for (;;) {
    constexpr mode_t kMode = 0644;
    shm::UniqueFd file(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, kMode));
    if (!file.valid()) return shm::fail(what, errno);
    if (auto locked = lock(file, what); !locked) return std::unexpected(locked.error());
    if (!still_there(path, file)) continue;
    PidFile held(path, std::move(file));
    if (auto named = held.name_us(); !named) return std::unexpected(named.error());
    return held;
  }
}

shm::Result<> PidFile::name_us() {
  if (!file_.valid()) return {};
  const std::string text = std::to_string(getpid()) + "\n";
  // In this order: whoever reads it meanwhile finds a number on its first line.
  if (pwrite(file_.get(), text.data(), text.size(), 0) == ssize_t(text.size()) &&
      ftruncate(file_.get(), off_t(text.size())) == 0) {
    named_ = true;
    return {};
  }
  return shm::fail("pid file '" + path_ + "': write", errno);
}

PidFile::~PidFile() {
  // Before the lock goes: whoever has it then finds that the file is not there.
  if (file_.valid() && named_) unlink(path_.c_str());
}

}  // namespace smbdirect::daemon
