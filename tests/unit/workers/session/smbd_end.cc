// SPDX-License-Identifier: MIT
#include "tests/unit/workers/session/smbd_end.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <sys/socket.h>

namespace smbdirect::workers::session_test {

void SmbdEnd::say(std::span<const std::byte> bytes) {
  to_say_.insert(to_say_.end(), bytes.begin(), bytes.end());
}

bool SmbdEnd::move() {
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

bool SmbdEnd::is_closed() const {
  std::byte one{};
  return ::recv(fd_.get(), &one, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
}

bool SmbdEnd::is_reset() const {
  std::byte one{};
  return ::recv(fd_.get(), &one, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && errno == ECONNRESET;
}

std::vector<uint64_t> SmbdEnd::ids() const {
  std::vector<uint64_t> all;
  for (const Bytes& pdu : heard) all.push_back(smb2_test::get(pdu, 24, 8));
  return all;
}

void SmbdEnd::cut() {
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

}  // namespace smbdirect::workers::session_test
