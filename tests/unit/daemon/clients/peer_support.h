// SPDX-License-Identifier: MIT
// What tests of the supervisor's native part share: a main process's end of its registration, and turns of
// the loop until something is so. Owned by the test.
#pragma once

#include <array>
#include <cerrno>
#include <functional>
#include <optional>
#include <span>
#include <sys/socket.h>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "protocol/proxy/frames.h"
#include "shm/base/unique_fd.h"
#include "shm/loop/loop.h"
#include "tests/unit/unix_sockets.h"

namespace smbdirect::daemon::test {

namespace proxy = protocol::proxy;
using Bytes = std::vector<std::byte>;

/// All that can happen without waiting.
inline void turn(shm::Loop& loop) {
  for (int i = 0; i < 10; ++i) uv_run(loop.get(), UV_RUN_NOWAIT);
}
inline void until(shm::Loop& loop, const std::function<bool()>& condition) {
  const uint64_t end = loop.now() + 10'000;
  shm::Timer tick(loop, [] {});
  bool met = false;
  while (!(met = condition()) && loop.now() < end) {
    tick.start(10);  // no turn waits longer
    uv_run(loop.get(), UV_RUN_ONCE);
  }
  REQUIRE(met);
}

using smbdirect::test::socket_pair;

/// Whether the other end has closed, with nothing left to be read.
inline bool ended(const shm::UniqueFd& fd) {
  char byte = 0;
  return recv(fd.get(), &byte, 1, MSG_DONTWAIT | MSG_PEEK) == 0;
}

inline Bytes failed(uint64_t number, int error) {
  const auto bytes = proxy::encode_header(
      {.length = 0, .type = proxy::FrameType::failed, .count = uint16_t(error), .id = number});
  return {bytes.begin(), bytes.end()};
}

/// A server's main process at its end of the connection.
class MainEnd {
 public:
  explicit MainEnd(shm::UniqueFd fd) : fd_(std::move(fd)) {}

  void say(std::span<const std::byte> bytes) {
    REQUIRE(send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL) == ssize_t(bytes.size()));
  }
  struct Heard {
    proxy::FrameHeader header;
    Bytes body;
  };
  /// The next frame, if there is one.
  std::optional<Heard> hear() {
    std::array<std::byte, proxy::kFrameHeaderBytes> head{};
    const ssize_t got = recv(fd_.get(), head.data(), head.size(), MSG_DONTWAIT);
    if (got <= 0) return std::nullopt;
    REQUIRE(got == ssize_t(head.size()));
    const auto header = proxy::parse_frame_header(head, proxy::Sender::daemon);
    REQUIRE(header);
    Heard heard{*header, Bytes(header->length)};
    if (heard.body.empty()) return heard;
    REQUIRE(recv(fd_.get(), heard.body.data(), heard.body.size(), MSG_DONTWAIT) ==
            ssize_t(heard.body.size()));
    return heard;
  }
  void hear_registered() {
    const auto heard = hear();
    REQUIRE(heard);
    CHECK(heard->header.type == proxy::FrameType::registered);
    CHECK(proxy::parse_version(heard->body).has_value());
  }
  [[nodiscard]] bool ended() const { return test::ended(fd_); }
  void close() { fd_.reset(); }

 private:
  shm::UniqueFd fd_;
};

}  // namespace smbdirect::daemon::test
