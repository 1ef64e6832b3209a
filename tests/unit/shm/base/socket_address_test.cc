// SPDX-License-Identifier: MIT
#include "shm/base/socket_address.h"

#include <netinet/in.h>
#include <string>

#include <doctest/doctest.h>

namespace shm = smbdirect::shm;

namespace {
shm::Host host(const char* text) { return shm::host_of(*shm::address_from_text(text, 0)); }
}  // namespace

TEST_CASE("addresses go to text and back") {
  for (const char* text :
       {"127.0.0.1", "0.0.0.0", "255.255.255.255", "::1", "::", "2001:db8::1", "fe80::1:2:3"}) {
    const auto address = shm::address_from_text(text, 5445);
    REQUIRE(address);
    CHECK(shm::host_text(shm::host_of(*address)) == text);
    CHECK(shm::port_of(*address) == 5445);
  }
  CHECK(shm::address_text(*shm::address_from_text("10.1.2.3", 1)) == "10.1.2.3:1");
  CHECK(shm::address_text(*shm::address_from_text("2001:db8::1", 65535)) == "[2001:db8::1]:65535");
  CHECK(shm::length_of(*shm::address_from_text("::1", 1)) == sizeof(sockaddr_in6));
  CHECK(shm::length_of(*shm::address_from_text("127.0.0.1", 1)) == sizeof(sockaddr_in));
}

TEST_CASE("a port can be put into an address") {
  for (const char* text : {"127.0.0.1", "2001:db8::1"}) {
    auto address = *shm::address_from_text(text, 1);
    shm::set_port(address, 5445);
    CHECK(shm::port_of(address) == 5445);
    CHECK(shm::host_text(shm::host_of(address)) == text);
  }
}

TEST_CASE("what is no numeric address is none") {
  for (const std::string text : {"", "localhost", "127.0.0", "1.2.3.4.5", "256.0.0.1", "::g", "127.0.0.1 ",
                                 "[::1]", "1.2.3.4/8", "fe80::1%lo"}) {
    CHECK_MESSAGE(!shm::address_from_text(text, 0), text);
  }
  CHECK_FALSE(shm::address_from_text(std::string_view("::1\0x", 5), 0));
}

TEST_CASE("an IPv4 address in its IPv6 form is the IPv4 address") {
  CHECK(host("::ffff:10.1.2.3") == host("10.1.2.3"));
  CHECK(shm::is_ipv4(host("::ffff:10.1.2.3")));
  CHECK_FALSE(shm::is_ipv4(host("::10.1.2.3")));
  CHECK(shm::host_text(host("::ffff:10.1.2.3")) == "10.1.2.3");
}

TEST_CASE("loopback") {
  for (const char* text : {"127.0.0.1", "127.255.0.3", "::1", "::ffff:127.0.0.1"})
    CHECK(shm::is_loopback(host(text)));
  for (const char* text : {"0.0.0.0", "128.0.0.1", "::", "::2", "10.0.0.1", "1::1"}) {
    CHECK_FALSE(shm::is_loopback(host(text)));
  }
}

TEST_CASE("an IPv6 client is its network, an IPv4 client itself, however it is written") {
  CHECK(shm::network_of(host("2001:db8:1:2:3:4:5:6"), 64) == host("2001:db8:1:2::"));
  CHECK(shm::network_of(host("2001:db8:1:2:3:4:5:6"), 56) == host("2001:db8:1::"));
  CHECK(shm::network_of(host("2001:db8:1:2ff:3:4:5:6"), 60) == host("2001:db8:1:2f0::"));
  CHECK(shm::network_of(host("ffff::"), 1) == host("8000::"));
  CHECK(shm::network_of(host("2001:db8::1"), 128) == host("2001:db8::1"));
  CHECK(shm::network_of(host("2001:db8::1"), 127) == host("2001:db8::"));
  for (const unsigned length : {1u, 64u, 128u}) {
    CHECK(shm::network_of(host("192.0.2.77"), length) == host("192.0.2.77"));
    CHECK(shm::network_of(host("::ffff:192.0.2.77"), length) == host("192.0.2.77"));
  }
}
