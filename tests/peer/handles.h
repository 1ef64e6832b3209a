// SPDX-License-Identifier: MIT
// What this program's processes own: descriptors and channels, each with exactly one owner. A handle lives
// and dies within one process; a forked child closes its copies by letting go of them.
#pragma once

#include <expected>
#include <memory>
#include <string>
#include <unistd.h>
#include <utility>

#include "protocol/proxy/smbdirect_peer.h"

namespace smbdirect::tests::peer {

/// What can fail in the running of this program: the error is a line for a person.
template <class T = void>
using Outcome = std::expected<T, std::string>;

class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  ~Fd() {
    if (fd_ >= 0) ::close(fd_);
  }
  [[nodiscard]] int get() const { return fd_; }
  [[nodiscard]] int release() { return std::exchange(fd_, -1); }
  explicit operator bool() const { return fd_ >= 0; }

 private:
  int fd_ = -1;
};

struct ChannelCloser {
  void operator()(smbdirect_channel* channel) const { smbdirect_channel_close(channel); }
};
using ChannelPtr = std::unique_ptr<smbdirect_channel, ChannelCloser>;

struct MainCloser {
  void operator()(smbdirect_main* main_process) const { smbdirect_main_close(main_process); }
};
using MainPtr = std::unique_ptr<smbdirect_main, MainCloser>;

}  // namespace smbdirect::tests::peer
