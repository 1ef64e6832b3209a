// SPDX-License-Identifier: MIT
#include "raw_peer.h"

#include <algorithm>
#include <cerrno>

#include <doctest/doctest.h>

namespace smbdirect::test {

void RawPeer::say(std::span<const std::byte> bytes) {
  const ssize_t n = ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  CHECK(n == static_cast<ssize_t>(bytes.size()));
}

void RawPeer::poll() {
  std::byte scratch[65536];
  while (!end_) {
    const ssize_t n = ::recv(fd_.get(), scratch, sizeof scratch, MSG_DONTWAIT);
    if (n > 0) {
      heard_.insert(heard_.end(), scratch, scratch + n);
      continue;
    }
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return;
    end_ = true;
    reset_ = n < 0;
  }
}

std::vector<std::byte> RawPeer::hear(size_t size) {
  const bool there = loop_.until([&] {
    poll();
    return heard_.size() >= size || end_;
  });
  CHECK(there);
  size = std::min(size, heard_.size());
  std::vector<std::byte> out(heard_.begin(), heard_.begin() + static_cast<ptrdiff_t>(size));
  heard_.erase(heard_.begin(), heard_.begin() + static_cast<ptrdiff_t>(size));
  return out;
}

bool RawPeer::wait_end() {
  return loop_.until([&] {
    poll();
    return end_;
  });
}

size_t RawPeer::pending() {
  poll();
  return heard_.size();
}

void RawPeer::reset() {
  const linger at_once{.l_onoff = 1, .l_linger = 0};
  CHECK(::setsockopt(fd_.get(), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once) == 0);
  fd_.reset();
}

}  // namespace smbdirect::test
