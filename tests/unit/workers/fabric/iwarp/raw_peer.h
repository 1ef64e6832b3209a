// SPDX-License-Identifier: MIT
// A peer made of nothing but a TCP socket: says exactly the bytes it is given and keeps what it hears.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "support.h"

namespace smbdirect::test {

class RawPeer {
 public:
  explicit RawPeer(Loop& loop, shm::UniqueFd fd) : loop_(loop), fd_(std::move(fd)) {}

  void say(std::span<const std::byte> bytes);
  /// Waits for this many bytes more and takes them.
  std::vector<std::byte> hear(size_t size);
  /// Waits until the other side has closed or reset; what came before stays to be heard.
  bool wait_end();
  [[nodiscard]] bool was_reset() const { return reset_; }
  /// Bytes that are here now and not yet taken.
  size_t pending();
  void shut() { ::shutdown(fd_.get(), SHUT_WR); }
  void reset();
  void close() { fd_.reset(); }

 private:
  void poll();

  Loop& loop_;
  shm::UniqueFd fd_;
  std::vector<std::byte> heard_;
  bool end_ = false;
  bool reset_ = false;
};

}  // namespace smbdirect::test
