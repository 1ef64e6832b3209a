// SPDX-License-Identifier: MIT
#include "daemon/upstream/transparent/source_ports.h"

#include <set>

#include <doctest/doctest.h>

using namespace smbdirect::daemon;

TEST_CASE("ports start where the seed says and go round, each once") {
  SourcePorts ports({10, 14}, 8, 100);
  CHECK(ports.next() == 13);
  CHECK(ports.next() == 14);
  CHECK(ports.next() == 10);
  CHECK(ports.next() == 11);
  CHECK(ports.next() == 12);
  CHECK(ports.next() == 0);
  CHECK(ports.next() == 0);
}

TEST_CASE("no more than the tries") {
  SourcePorts ports({}, 0xffff'ffff, 3);
  std::set<uint16_t> seen;
  for (int i = 0; i < 3; ++i) seen.insert(ports.next());
  CHECK(seen.size() == 3);
  CHECK(ports.next() == 0);
}

TEST_CASE("by default they stay outside of what clients choose from") {
  for (const uint32_t seed : {0u, 1u, 31'743u, 31'744u, 0xffff'ffffu}) {
    SourcePorts ports({}, seed, 40'000);
    uint32_t count = 0;
    while (const uint16_t port = ports.next()) {
      REQUIRE(port >= 1024);
      REQUIRE(port < 32'768);
      ++count;
    }
    CHECK(count == 31'744);
  }
}

TEST_CASE("an empty range has no ports") { CHECK(SourcePorts({5, 4}, 7, 10).next() == 0); }
