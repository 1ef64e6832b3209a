// SPDX-License-Identifier: MIT
#include "daemon/prefork/backoff.h"

#include <doctest/doctest.h>

using smbdirect::daemon::Backoff;

TEST_CASE("the first restart is at once, each further one waits an increment longer, up to the maximum") {
  Backoff backoff(10'000, 35'000, 30'000);
  CHECK(backoff.next(0) == 0);
  CHECK(backoff.next(0) == 10'000);
  CHECK(backoff.next(29'999) == 20'000);
  CHECK(backoff.next(0) == 30'000);
  CHECK(backoff.next(1) == 35'000);
  CHECK(backoff.next(0) == 35'000);
}

TEST_CASE("a time of health starts it afresh") {
  Backoff backoff(10, 100, 30);
  CHECK(backoff.next(0) == 0);
  CHECK(backoff.next(0) == 10);
  CHECK(backoff.next(0) == 20);
  CHECK(backoff.next(30) == 0);
  CHECK(backoff.next(0) == 10);
}

TEST_CASE("one that never was ready was never healthy, also when no time of health is asked for") {
  Backoff backoff(10, 100, 0);
  CHECK(backoff.next(0) == 0);
  CHECK(backoff.next(0) == 10);
  CHECK(backoff.next(1) == 0);
}

TEST_CASE("an increment of 0 never waits") {
  Backoff backoff(0, 0, 30);
  for (int i = 0; i < 5; ++i) CHECK(backoff.next(0) == 0);
}
