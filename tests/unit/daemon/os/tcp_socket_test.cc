// SPDX-License-Identifier: MIT
#include "daemon/os/tcp_socket.h"

#include <string>

#include <doctest/doctest.h>

using smbdirect::daemon::parse_tcp_socket;
using smbdirect::daemon::TcpSocket;
namespace shm = smbdirect::shm;

namespace {
const std::string kRest = " 00:00000000 00000000     0        0 4711 1 0";
}

TEST_CASE("the kernel's table of sockets, line by line") {
  const auto four = parse_tcp_socket("   1: 0100007F:01BD 0702000A:9C40 01 00000000:00000000" + kRest);
  REQUIRE(four);
  CHECK(shm::host_text(four->local) == "127.0.0.1");
  CHECK(four->local_port == 445);
  CHECK(shm::host_text(four->remote) == "10.0.2.7");
  CHECK(four->remote_port == 40'000);
  CHECK(four->state == TcpSocket::State::established);
  CHECK(four->inode == 4711);
  const auto six = parse_tcp_socket(
      "   0: 00000000000000000000000000000000:01BD B80D0120000000000000000007000000:9C41 0A "
      "00000000:00000000" +
      kRest);
  REQUIRE(six);
  CHECK(six->local == shm::Host{});
  CHECK(shm::host_text(six->remote) == "2001:db8::7");
  CHECK(six->state == TcpSocket::State::listen);
}

TEST_CASE("what is no socket is none") {
  for (const char* line :
       {"",
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode",
        "   1: 0A0200C0:01BD 00000000:0000 0A", "   1: 0A0200:01BD 00000000:0000 0A 0:0 00:0 0 0 0 4711 1",
        "   1: 0A0200C0 00000000:0000 0A 0:0 00:0 0 0 0 4711 1",
        "   1: 0A0200C0:1BD00 00000000:0000 0A 0:0 00:0 0 0 0 4711 1",
        "   1: 0A0200C0:01BD 00000000:0000 0A 0:0 00:0 0 0 0 x 1",
        "   1: 0A0200C0:01BD 00000000:0000 100 0:0 00:0 0 0 0 4711 1",
        "   1: 0A0200G0:01BD 00000000:0000 0A 0:0 00:0 0 0 0 4711 1"}) {
    INFO(line);
    CHECK_FALSE(parse_tcp_socket(line));
  }
}
