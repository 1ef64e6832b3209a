// SPDX-License-Identifier: MIT
#include "shm/token_buckets.h"

#include <doctest/doctest.h>

using smbdirect::daemon::TokenBuckets;
namespace shm = smbdirect::shm;

namespace {
shm::Host client(uint8_t n) { return {0x20, 1, n}; }
}  // namespace

TEST_CASE("so many at once, so many per second over time; each client its own") {
  TokenBuckets buckets(3, 2);
  for (int i = 0; i < 3; ++i) CHECK(buckets.take(client(1), 1'000));
  CHECK_FALSE(buckets.take(client(1), 1'000));
  CHECK(buckets.take(client(2), 1'000));
  CHECK_FALSE(buckets.take(client(1), 1'499));
  CHECK(buckets.take(client(1), 1'500));
  CHECK_FALSE(buckets.take(client(1), 1'500));
  for (int i = 0; i < 3; ++i) CHECK(buckets.take(client(1), 1'000'000'000));  // no more than at once
  CHECK_FALSE(buckets.take(client(1), 1'000'000'000));
  CHECK_FALSE(buckets.take(client(1), 5));  // a clock that goes back gives nothing
}

TEST_CASE("what is given back can be taken again, and is no more than there was") {
  TokenBuckets buckets(1, 1);
  buckets.give_back(client(1));  // nobody knows it
  CHECK(buckets.take(client(1), 0));
  buckets.give_back(client(1));
  buckets.give_back(client(1));
  CHECK(buckets.take(client(1), 0));
  CHECK_FALSE(buckets.take(client(1), 0));
}

TEST_CASE("no rate is no limit, and keeps nothing") {
  TokenBuckets buckets(1, 0);
  for (int i = 0; i < 10; ++i) CHECK(buckets.take(client(1), 0));
  CHECK(buckets.size() == 0);
}

TEST_CASE("clients are forgotten where they are many, those with the most left first") {
  TokenBuckets buckets(2, 1, 2);
  CHECK(buckets.take(client(1), 0));
  CHECK(buckets.take(client(1), 0));
  CHECK(buckets.take(client(2), 0));
  CHECK(buckets.take(client(3), 0));  // 2 is forgotten
  CHECK(buckets.size() == 2);
  CHECK_FALSE(buckets.take(client(1), 0));
  CHECK(buckets.take(client(4), 10'000));  // all are full again
  CHECK(buckets.size() == 1);
}
