// SPDX-License-Identifier: MIT
// A file descriptor with exactly one owner. Any process may use it; nothing here is shared between
// threads. Closing never retries on EINTR (Linux has closed the descriptor by then).
#pragma once

#include <fcntl.h>
#include <unistd.h>
#include <utility>

namespace smbdirect::shm {

class UniqueFd {
 public:
  UniqueFd() = default;
  explicit UniqueFd(int fd) : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    const int old = std::exchange(fd_, std::exchange(other.fd_, -1));
    if (old >= 0 && old != fd_) ::close(old);
    return *this;
  }
  UniqueFd(const UniqueFd&) = delete;
  UniqueFd& operator=(const UniqueFd&) = delete;
  ~UniqueFd() {
    if (fd_ >= 0) ::close(fd_);
  }

  [[nodiscard]] int get() const { return fd_; }
  [[nodiscard]] bool valid() const { return fd_ >= 0; }
  [[nodiscard]] int release() { return std::exchange(fd_, -1); }
  void reset() { *this = UniqueFd{}; }

 private:
  int fd_ = -1;
};

/// Another descriptor of the same open file; not valid where errno says why.
[[nodiscard]] inline UniqueFd duplicate_of(int fd) {
  return UniqueFd(::fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1));
}

}  // namespace smbdirect::shm
