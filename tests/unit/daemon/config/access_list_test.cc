// SPDX-License-Identifier: MIT
#include "daemon/config/access_list.h"

#include <random>
#include <string>

#include <doctest/doctest.h>

using smbdirect::daemon::Access;
using smbdirect::daemon::AccessList;
using smbdirect::daemon::Cidr;
namespace shm = smbdirect::shm;

namespace {

shm::Host host(const char* text) { return shm::host_of(*shm::address_from_text(text, 0)); }
Cidr net(const std::string& text) {
  const auto cidr = Cidr::parse(text);
  REQUIRE_MESSAGE(cidr, text);
  return *cidr;
}

/// The same question, asked bit by bit.
bool same_prefix(const shm::Host& a, const shm::Host& b, unsigned bits) {
  for (unsigned i = 0; i < bits; ++i) {
    if (((a[i / 8] ^ b[i / 8]) >> (7 - i % 8)) & 1) return false;
  }
  return true;
}

}  // namespace

TEST_CASE("networks contain what their prefix says") {
  CHECK(net("10.0.0.0/8").contains(host("10.255.1.2")));
  CHECK_FALSE(net("10.0.0.0/8").contains(host("11.0.0.0")));
  CHECK(net("192.0.2.7").contains(host("192.0.2.7")));
  CHECK_FALSE(net("192.0.2.7").contains(host("192.0.2.6")));
  CHECK(net("192.0.2.128/25").contains(host("192.0.2.200")));
  CHECK_FALSE(net("192.0.2.128/25").contains(host("192.0.2.127")));
  CHECK(net("2001:db8::/32").contains(host("2001:db8:ffff::1")));
  CHECK_FALSE(net("2001:db8::/32").contains(host("2001:db9::1")));
  CHECK(net("0.0.0.0/0").contains(host("1.2.3.4")));
  CHECK(net("::/0").contains(host("2001:db8::1")));
}

TEST_CASE("families do not mix, but a mapped IPv4 address is IPv4") {
  CHECK(net("10.0.0.0/8").contains(host("::ffff:10.1.2.3")));
  CHECK_FALSE(net("::/0").contains(host("10.1.2.3")));
  CHECK_FALSE(net("::/0").contains(host("::ffff:10.1.2.3")));
  CHECK_FALSE(net("0.0.0.0/0").contains(host("::1")));
  CHECK(net("::ffff:10.0.0.0/104").contains(host("10.1.2.3")));
  CHECK(net("::ffff:10.0.0.0/104").text() == "10.0.0.0/8");
  CHECK(net("::ffff:0:0/96").contains(host("10.1.2.3")));
}

TEST_CASE("wrong networks say what is wrong with them") {
  const auto error = [](const char* text) { return Cidr::parse(text).error(); };
  for (const char* text :
       {"", "/8", "foo", "10.0.0/8", "10.0.0.0.0/8", "10.0.0.0//8", "1.2.3.4/8/8", "::g/1"}) {
    CHECK_MESSAGE(!Cidr::parse(text), text);
  }
  CHECK(error("foo") == "is not a network");
  for (const char* text :
       {"10.0.0.0/33", "10.0.0.0/", "10.0.0.0/-1", "10.0.0.0/8x", "10.0.0.0/ 8", "10.0.0.0/+8"}) {
    CHECK_MESSAGE(error(text) == "has a prefix length that is not 0 to 32", text);
  }
  CHECK(error("::/129") == "has a prefix length that is not 0 to 128");
  CHECK(error("10.0.0.1/8") == "has bits set beyond its prefix; did you mean \"10.0.0.0/8\"?");
  CHECK(error("2001:db8::1/64") == "has bits set beyond its prefix; did you mean \"2001:db8::/64\"?");
  CHECK(error("1.0.0.0/0") == "has bits set beyond its prefix; did you mean \"0.0.0.0/0\"?");
}

TEST_CASE("property: parsing a network's text gives the network, and contains agrees with a bitwise check") {
  constexpr uint32_t kSeed = 20240501;
  INFO("seed ", kSeed);
  std::mt19937 random(kSeed);
  for (int round = 0; round < 5000; ++round) {
    const bool ipv4 = random() % 2 == 0;
    shm::Host a{};
    for (uint8_t& byte : a) byte = uint8_t(random());
    if (ipv4)
      a = host(("1." + std::to_string(random() % 256) + ".2." + std::to_string(random() % 256)).c_str());
    const unsigned most = ipv4 ? 32 : 128;
    const auto bits = unsigned(random() % (most + 1));
    const unsigned offset = 128 - most;
    shm::Host network = a;
    for (unsigned i = offset + bits; i < 128; ++i)
      network[i / 8] = uint8_t(network[i / 8] & ~(0x80u >> (i % 8)));
    if (shm::is_ipv4(network) != ipv4) continue;  // a random IPv6 network in the mapped range
    const std::string text = shm::host_text(network) + "/" + std::to_string(bits);
    const Cidr cidr = net(text);
    CHECK(cidr.text() == text);
    CHECK(net(cidr.text()).text() == text);
    CHECK(cidr.contains(a));
    shm::Host b = a;  // one bit away
    const unsigned flip = offset + unsigned(random() % most);
    b[flip / 8] = uint8_t(b[flip / 8] ^ (0x80u >> (flip % 8)));
    if (shm::is_ipv4(b) == ipv4) CHECK(cidr.contains(b) == same_prefix(network, b, offset + bits));
  }
}

TEST_CASE("deny wins, an empty allow is loopback") {
  AccessList list;
  CHECK(list.check(host("127.0.0.1")) == Access::allowed);
  CHECK(list.check(host("::1")) == Access::allowed);
  CHECK(list.check(host("192.0.2.1")) == Access::not_loopback);
  list.deny = {net("127.0.0.2")};
  CHECK(list.check(host("127.0.0.2")) == Access::denied);
  CHECK(list.check(host("127.0.0.3")) == Access::allowed);
  CHECK(list.check(host("192.0.2.1")) == Access::not_loopback);
  list.allow = {net("192.0.2.0/24"), net("2001:db8::/32")};
  list.deny = {net("192.0.0.0/16"), net("2001:db8::1")};
  CHECK(list.check(host("192.0.2.1")) == Access::denied);  // although the allowed network is the smaller one
  CHECK(list.check(host("127.0.0.1")) == Access::not_in_allow);
  CHECK(list.check(host("2001:db8::1")) == Access::denied);
  CHECK(list.check(host("2001:db8::2")) == Access::allowed);
}
