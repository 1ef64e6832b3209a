// SPDX-License-Identifier: MIT
// Two ends of one TCP connection over loopback, for what UNIX sockets do not have: a reset. Of the test that
// makes it.
#pragma once

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <utility>

#include <doctest/doctest.h>

#include "shm/base/unique_fd.h"

namespace smbdirect::workers::session_test {

inline std::pair<shm::UniqueFd, shm::UniqueFd> tcp_pair() {
  sockaddr_in at{};
  at.sin_family = AF_INET;
  at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof at;
  auto* address = reinterpret_cast<sockaddr*>(&at);
  const shm::UniqueFd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  REQUIRE(::bind(listener.get(), address, length) == 0);
  REQUIRE(::listen(listener.get(), 1) == 0);
  REQUIRE(::getsockname(listener.get(), address, &length) == 0);
  shm::UniqueFd near(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  REQUIRE(::connect(near.get(), address, length) == 0);
  shm::UniqueFd far(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  REQUIRE(far.valid());
  const int on = 1;  // what is sent comes in the same moment
  REQUIRE(::setsockopt(near.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) == 0);
  return {std::move(near), std::move(far)};
}

}  // namespace smbdirect::workers::session_test
