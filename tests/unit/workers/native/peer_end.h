// SPDX-License-Identifier: MIT
// A server process's end of a native channel, for tests: says frames and hears the worker's, and never
// blocks. Owned by the test.
#pragma once

#include <algorithm>
#include <array>
#include <cerrno>
#include <deque>
#include <iterator>
#include <optional>
#include <span>
#include <sys/socket.h>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "protocol/proxy/frames.h"
#include "shm/base/unique_fd.h"
#include "tests/unit/unix_sockets.h"

namespace smbdirect::workers::native_test {

namespace proxy = protocol::proxy;
using Bytes = std::vector<std::byte>;

inline Bytes frame(const proxy::FrameHeader& header, std::span<const std::byte> body = {}) {
  auto filled = header;
  filled.length = uint32_t(body.size());
  const auto head = proxy::encode_header(filled);
  Bytes bytes(head.begin(), head.end());
  bytes.insert(bytes.end(), body.begin(), body.end());
  return bytes;
}
inline Bytes attached() { return frame({.type = proxy::FrameType::attached}, proxy::encode_version()); }
inline Bytes operator+(Bytes left, std::span<const std::byte> right) {
  left.insert(left.end(), right.begin(), right.end());
  return left;
}

using test::inode;

class PeerEnd {
 public:
  PeerEnd() = default;
  explicit PeerEnd(shm::UniqueFd fd) : fd_(std::move(fd)) {}

  void say(std::span<const std::byte> bytes) {
    REQUIRE(::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT) ==
            ssize_t(bytes.size()));
  }
  struct Heard {
    proxy::FrameHeader header;
    Bytes body;
    shm::UniqueFd descriptor;  // with FACTS and CHANNEL
  };
  /// The next frame, if all of it is here.
  std::optional<Heard> hear() {
    drain();
    if (bytes_.size() < proxy::kFrameHeaderBytes) return std::nullopt;
    const auto header = proxy::parse_frame_header(
        std::span<const std::byte>(bytes_).first<proxy::kFrameHeaderBytes>(), proxy::Sender::worker);
    REQUIRE(header);
    const size_t size = proxy::kFrameHeaderBytes + header->length;
    if (bytes_.size() < size) return std::nullopt;
    Heard heard{*header, {bytes_.begin() + proxy::kFrameHeaderBytes, bytes_.begin() + ptrdiff_t(size)}, {}};
    bytes_.erase(bytes_.begin(), bytes_.begin() + ptrdiff_t(size));
    if (header->type == proxy::FrameType::facts || header->type == proxy::FrameType::channel) {
      REQUIRE_FALSE(descriptors_.empty());
      heard.descriptor = std::move(descriptors_.front());
      descriptors_.pop_front();
    }
    return heard;
  }
  /// Bytes of a frame that is not here whole.
  [[nodiscard]] size_t pending() {
    drain();
    return bytes_.size();
  }
  [[nodiscard]] bool ended() {
    drain();
    return ended_;
  }
  void close() { fd_.reset(); }
  [[nodiscard]] int fd() const { return fd_.get(); }

 private:
  void drain() {
    while (fd_.valid() && !ended_) {
      std::array<std::byte, 65536> some;
      auto seen = test::receive_with(fd_.get(), some, MSG_DONTWAIT);
      if (!seen) {
        ended_ = errno != EAGAIN;
        return;
      }
      std::ranges::move(seen->descriptors, std::back_inserter(descriptors_));
      bytes_.insert(bytes_.end(), some.begin(), some.begin() + ptrdiff_t(seen->bytes));
    }
  }

  shm::UniqueFd fd_;
  Bytes bytes_;
  std::deque<shm::UniqueFd> descriptors_;
  bool ended_ = false;
};

}  // namespace smbdirect::workers::native_test
