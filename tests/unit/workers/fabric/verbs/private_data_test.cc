// SPDX-License-Identifier: MIT
#include "workers/fabric/verbs/private_data.h"

#include <random>
#include <vector>

#include <doctest/doctest.h>

namespace {

using namespace smbdirect::workers::fabric::verbs;
using Bytes = std::vector<std::byte>;

Bytes bytes(std::initializer_list<unsigned> values) {
  Bytes out;
  for (const unsigned value : values) out.push_back(static_cast<std::byte>(value));
  return out;
}

}  // namespace

TEST_CASE("private data: vectors") {
  // A Windows or a current Linux client.
  CHECK(parse_ird_ord(bytes({0, 0, 0, 32, 0, 0, 0, 1}), true) == IrdOrd{.ird = 32, .ord = 1});
  CHECK(parse_ird_ord(bytes({0, 0, 0x3f, 0xff, 0, 0, 1, 0}), true) == IrdOrd{.ird = 0x3fff, .ord = 256});
  // cifs.ko of Linux 6.1 on x86-64.
  CHECK(parse_ird_ord(bytes({32, 0, 0, 0, 1, 0, 0, 0}), true) == IrdOrd{.ird = 32, .ord = 1});
  CHECK(parse_ird_ord(bytes({0, 0, 0, 0, 0, 0, 0, 0}), true) == IrdOrd{});
  // What it writes back.
  const auto written = ird_ord_bytes({.ird = 0x01020304, .ord = 5});
  CHECK(Bytes(written.begin(), written.end()) == bytes({1, 2, 3, 4, 0, 0, 0, 5}));
}

TEST_CASE("private data: what is not eight bytes, or not from iWARP, says nothing") {
  const Bytes eight = bytes({0, 0, 0, 32, 0, 0, 0, 1});
  CHECK_FALSE(parse_ird_ord(eight, false));
  // InfiniBand and RoCE always deliver 56 bytes.
  for (size_t size = 0; size <= 256; ++size) {
    if (size != 8) CHECK_FALSE(parse_ird_ord(Bytes(size, std::byte{1}), true));
  }
}

TEST_CASE("private data: junk neither refuses anybody nor allows more than a byte can say") {
  constexpr uint32_t kSeed = 6114;
  INFO("seed ", kSeed);
  std::mt19937 random(kSeed);
  for (int round = 0; round < 10000; ++round) {
    Bytes junk(8);
    for (std::byte& byte : junk) byte = static_cast<std::byte>(random());
    const auto parsed = parse_ird_ord(junk, true);
    REQUIRE(parsed);
    const PeerLimits named{.initiator_depth = static_cast<uint8_t>(random()),
                           .responder_resources = static_cast<uint8_t>(random())};
    const PeerLimits limits = tightened(named, *parsed);
    if (acceptable(*parsed)) {
      CHECK(limits.initiator_depth != 0);
      CHECK(limits.responder_resources != 0);
    }
    if (named.initiator_depth != 0) CHECK(limits.initiator_depth <= named.initiator_depth);
    if (named.responder_resources != 0) CHECK(limits.responder_resources <= named.responder_resources);
    const OurLimits ours = at_least_one({.initiator_depth = static_cast<uint8_t>(random()),
                                         .responder_resources = static_cast<uint8_t>(random())});
    const IrdOrd answer = answer_to(*parsed, ours);
    CHECK(answer.ird <= ours.initiator_depth);
    CHECK(answer.ord <= ours.responder_resources);
    CHECK(acceptable(answer) == acceptable(*parsed));
  }
}

TEST_CASE("private data: limits and answers") {
  const IrdOrd client{.ird = 32, .ord = 1};
  const auto limits = tightened({.initiator_depth = 16, .responder_resources = 0}, client);
  CHECK(limits.initiator_depth == 16);
  CHECK(limits.responder_resources == 1);
  CHECK(
      tightened({.initiator_depth = 0, .responder_resources = 9}, {.ird = 1000, .ord = 4}).initiator_depth ==
      255);
  CHECK(answer_to(client, {.initiator_depth = 8, .responder_resources = 1}) == IrdOrd{.ird = 8, .ord = 1});
  CHECK(answer_to({.ird = 4, .ord = 2}, {.initiator_depth = 8, .responder_resources = 7}) ==
        IrdOrd{.ird = 4, .ord = 2});
  CHECK_FALSE(acceptable({.ird = 0, .ord = 1}));
  CHECK_FALSE(acceptable({.ird = 1, .ord = 0}));
  CHECK(acceptable({.ird = 1, .ord = 1}));
}
