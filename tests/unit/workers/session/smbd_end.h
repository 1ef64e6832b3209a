// SPDX-License-Identifier: MIT
// smbd's end of a session's socket, for tests: takes requests off the stream and says what it is told to, in
// pieces of any size. Owned by the test; never blocks.
#pragma once

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <span>
#include <sys/socket.h>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "shm/base/unique_fd.h"
#include "tests/unit/protocol/smb2/build_pdu.h"

namespace smbdirect::workers::session_test {

using smb2_test::Bytes;
using Messages = std::vector<Bytes>;

/// A message as a stream has it (MS-SMB2 2.1): its length in front.
inline Bytes framed(std::span<const std::byte> pdu) {
  Bytes out(4);
  for (size_t i = 1; i < 4; ++i) out[i] = static_cast<std::byte>(pdu.size() >> (24 - 8 * i) & 0xFF);
  out.insert(out.end(), pdu.begin(), pdu.end());
  return out;
}

class SmbdEnd {
 public:
  SmbdEnd() = default;
  explicit SmbdEnd(shm::UniqueFd fd) : fd_(std::move(fd)) {}

  void say(std::span<const std::byte> bytes) { to_say_.insert(to_say_.end(), bytes.begin(), bytes.end()); }
  void answer(std::span<const std::byte> pdu) { say(framed(pdu)); }
  /// When all is said.
  void close() { closes_ = true; }

  /// True: something moved.
  bool move() {
    if (!fd_.valid()) return false;
    bool moved = false;
    if (const auto next = std::span(to_say_).subspan(said_); !next.empty()) {
      const ssize_t n =
          ::send(fd_.get(), next.data(), std::min(next.size(), at_a_time), MSG_NOSIGNAL | MSG_DONTWAIT);
      REQUIRE((n > 0 || errno == EAGAIN));
      if (n > 0) said_ += static_cast<size_t>(n), moved = true;
    }
    std::array<std::byte, 65536> some;
    for (ssize_t n = 1; reads && n > 0;) {
      n = ::recv(fd_.get(), some.data(), some.size(), MSG_DONTWAIT);
      if (n <= 0) break;
      got_.insert(got_.end(), some.begin(), some.begin() + n);
      moved = true;
    }
    cut();
    if (closes_ && said_ == to_say_.size()) fd_.reset();
    return moved;
  }
  /// The other end was closed, and all that it said is heard.
  [[nodiscard]] bool is_closed() const {
    std::byte one{};
    return ::recv(fd_.get(), &one, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
  }
  /// It was reset: what asks first hears of it.
  [[nodiscard]] bool is_reset() const {
    std::byte one{};
    return ::recv(fd_.get(), &one, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && errno == ECONNRESET;
  }
  /// Bytes of a request that is not here whole, its length among them.
  [[nodiscard]] std::span<const std::byte> part() const { return got_; }
  [[nodiscard]] bool all_said() const { return said_ == to_say_.size(); }
  /// The MessageIds of what was heard.
  [[nodiscard]] std::vector<uint64_t> ids() const {
    std::vector<uint64_t> all;
    for (const Bytes& pdu : heard) all.push_back(smb2_test::get(pdu, 24, 8));
    return all;
  }

  std::vector<Bytes> heard;     // whole requests
  size_t at_a_time = SIZE_MAX;  // bytes said in one turn
  bool reads = true;

 private:
  void cut() {
    size_t at = 0;
    while (got_.size() - at >= 4) {
      size_t length = 0;
      for (size_t i = 1; i < 4; ++i) length = length << 8 | std::to_integer<size_t>(got_[at + i]);
      REQUIRE(got_[at] == std::byte{0});
      if (got_.size() - at - 4 < length) break;
      const auto pdu = std::span(got_).subspan(at + 4, length);
      heard.emplace_back(pdu.begin(), pdu.end());
      at += 4 + length;
    }
    got_.erase(got_.begin(), got_.begin() + static_cast<ptrdiff_t>(at));
  }

  shm::UniqueFd fd_;
  Bytes to_say_;
  size_t said_ = 0;
  Bytes got_;
  bool closes_ = false;
};

}  // namespace smbdirect::workers::session_test
