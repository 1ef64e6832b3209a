// SPDX-License-Identifier: MIT
// A file descriptor with exactly one owner, in the process that links libsmbdirect-peer. (The daemon and its
// workers have shm/base/unique_fd.h; the library takes nothing from them.) Closing never retries on EINTR:
// Linux has closed the descriptor by then.
#pragma once

#include <unistd.h>
#include <utility>

namespace smbdirect::protocol::proxy::peer {

class OwnedFd {
 public:
  OwnedFd() = default;
  explicit OwnedFd(int fd) : fd_(fd) {}
  OwnedFd(OwnedFd&& other) noexcept : fd_(other.release()) {}
  OwnedFd& operator=(OwnedFd&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  OwnedFd(const OwnedFd&) = delete;
  OwnedFd& operator=(const OwnedFd&) = delete;
  ~OwnedFd() {
    if (fd_ >= 0) ::close(fd_);
  }

  [[nodiscard]] int get() const { return fd_; }
  [[nodiscard]] bool valid() const { return fd_ >= 0; }
  [[nodiscard]] int release() { return std::exchange(fd_, -1); }

 private:
  int fd_ = -1;
};

}  // namespace smbdirect::protocol::proxy::peer
