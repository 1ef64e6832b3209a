// SPDX-License-Identifier: MIT
#include "daemon/prefork/backoff.h"

#include <doctest/doctest.h>

using smbdirect::daemon::Backoff;

TEST_CASE("the first restart is at once, each further one waits an increment longer, up to the maximum") {
  Backoff backoff;
  const Backoff::Limits limits{10'000, 35'000, 30'000};
  CHECK(backoff.next(limits, 0) == 0);
  CHECK(backoff.next(limits, 0) == 10'000);
  CHECK(backoff.next(limits, 29'999) == 20'000);
  CHECK(backoff.next(limits, 0) == 30'000);
  CHECK(backoff.next(limits, 1) == 35'000);
  CHECK(backoff.next(limits, 0) == 35'000);
}

TEST_CASE("a time of health starts it afresh") {
  Backoff backoff;
  const Backoff::Limits limits{10, 100, 30};
  CHECK(backoff.next(limits, 0) == 0);
  CHECK(backoff.next(limits, 0) == 10);
  CHECK(backoff.next(limits, 0) == 20);
  CHECK(backoff.next(limits, 30) == 0);
  CHECK(backoff.next(limits, 0) == 10);
}

TEST_CASE("one that never was ready was never healthy, also when no time of health is asked for") {
  Backoff backoff;
  const Backoff::Limits limits{10, 100, 0};
  CHECK(backoff.next(limits, 0) == 0);
  CHECK(backoff.next(limits, 0) == 10);
  CHECK(backoff.next(limits, 1) == 0);
}

TEST_CASE("an increment of 0 never waits") {
  Backoff backoff;
  const Backoff::Limits limits{0, 0, 30};
  for (int i = 0; i < 5; ++i) CHECK(backoff.next(limits, 0) == 0);
}

TEST_CASE("limits that have become smaller hold at once, and a slot that was given up begins anew") {
  Backoff backoff;
  for (int i = 0; i < 8; ++i) (void)backoff.next({10'000, 120'000, 30'000}, 0);
  CHECK(backoff.next({10'000, 15'000, 30'000}, 0) == 15'000);
  backoff.reset();
  CHECK(backoff.next({10'000, 15'000, 30'000}, 0) == 0);
}
