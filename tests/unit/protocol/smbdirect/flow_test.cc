// SPDX-License-Identifier: MIT
// What moving data costs in empty messages and in waiting, engine to engine.
#include <doctest/doctest.h>

#include "tests/unit/protocol/smbdirect/pair.h"

namespace smbdirect::protocol::smb_direct::test {
namespace {

constexpr uint16_t kCredits[] = {1, 2, 3, 5, 8, 10, 15, 16, 32, 255};

}  // namespace

TEST_CASE("1 credit each way and up: a fragmented message needs no waiting, in either direction") {
  for (const uint16_t a : kCredits) {
    for (const uint16_t b : kCredits) {
      CAPTURE(a);
      CAPTURE(b);
      Pair pair(limits_with_credits(a, 255, b), limits_with_credits(b, 255, a));
      pair.client.queue = {400'000};
      pair.settle();
      CHECK(pair.server.completed == 1);
      pair.server.queue = {400'000};
      // The client may hold the credit the server needs: one round to get it.
      CHECK(pair.wait([&] { return pair.client.completed == 1; }, 200));
      CHECK(pair.now <= 100);
    }
  }
}

TEST_CASE("receive_credit_max at its least, both ways") {
  for (const uint16_t a : kCredits) {
    CAPTURE(a);
    Pair pair(limits_with_credits(1, 1, a), limits_with_credits(1, 1, a));
    pair.client.queue = {100'000};
    pair.settle();
    CHECK(pair.server.completed == 1);
    pair.server.queue = {100'000};
    CHECK(pair.wait([&] { return pair.client.completed == 1; }, 200));
  }
}

TEST_CASE("request and reply: the reply carries the grant, no empty message is sent") {
  for (const uint16_t credits : {uint16_t{2}, uint16_t{3}, uint16_t{10}, uint16_t{32}, uint16_t{255}}) {
    CAPTURE(credits);
    Pair pair(limits_with_credits(credits, 255, credits), limits_with_credits(credits, 255, credits));
    const uint64_t before = pair.client.empty + pair.server.empty;
    for (int i = 0; i < 1000; ++i) {
      pair.client.queue = {120};
      pair.settle();
      pair.server.queue = {200};
      pair.settle();
    }
    CHECK(pair.server.completed == 1000);
    CHECK(pair.client.completed == 1000);
    CHECK(pair.client.empty + pair.server.empty - before <= (credits > 3 ? 10 : 1000));
    CHECK(pair.now == 0);
  }
}

TEST_CASE("1 credit each way: a reply that is slow is not starved of its credit") {
  Pair pair(limits_with_credits(1, 255, 1), limits_with_credits(1, 255, 1));
  for (uint64_t i = 1; i <= 50; ++i) {
    pair.client.queue = {120};
    pair.settle();
    REQUIRE(pair.server.completed == i);
    pair.wait([] { return false; }, 20);  // smbd thinks
    pair.server.queue = {3000};
    REQUIRE(pair.wait([&] { return pair.client.completed == i; }, 1000));
  }
  CHECK(pair.server.empty + pair.client.empty < 300);
  CHECK(pair.now <= 50 * 130);
}

TEST_CASE("a long stream of fragments costs few empty grants, and the target grows with use") {
  Pair pair({}, {});
  pair.client.queue = {8'000'000, 8'000'000};
  pair.settle();
  CHECK(pair.server.completed == 2);
  CHECK(pair.server.engine.credits().receive_target == 255);
  CHECK(pair.server.empty < pair.client.data / 20);
  CHECK(pair.client.empty <= 4);
}

TEST_CASE("no ping-pong of empties: at rest both are silent until the idle timer") {
  for (const uint16_t a : kCredits) {
    for (const uint16_t b : kCredits) {
      CAPTURE(a);
      CAPTURE(b);
      Pair pair(limits_with_credits(a, 255, b), limits_with_credits(b, 255, a));
      pair.client.queue = {5000, 10};
      pair.settle();
      pair.server.queue = {5000};
      pair.wait([] { return false; }, 10'000);
      const uint64_t before = pair.client.empty + pair.server.empty;
      CHECK(before <= 12);
      pair.wait([] { return false; }, 100'000);
      CHECK(pair.client.empty + pair.server.empty == before);
      CHECK(pair.client.engine.credits().send > 0);
      CHECK(pair.server.engine.credits().send > 0);
    }
  }
}

TEST_CASE("an idle connection is kept alive by one question and one answer per idle time") {
  Pair pair({}, {});
  const uint64_t before = pair.client.empty + pair.server.empty;
  pair.wait([] { return false; }, 1'000'000);
  // Whoever asks first spares the other the question: 8 idle times fit.
  CHECK(pair.client.empty + pair.server.empty - before >= 16);
  CHECK(pair.client.empty + pair.server.empty - before <= 2 * 16);
  CHECK(pair.client.engine.phase() == Phase::established);
  CHECK(pair.server.engine.phase() == Phase::established);
}

}  // namespace smbdirect::protocol::smb_direct::test
