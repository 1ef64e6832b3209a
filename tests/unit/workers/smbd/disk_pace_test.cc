// SPDX-License-Identifier: MIT
// Disks that take their time: no more calls by the loop's own thread for a while, which grows.
#include "workers/smbd/disk_pace.h"

#include <algorithm>

#include <doctest/doctest.h>

using smbdirect::workers::DiskPace;

namespace {

constexpr dev_t kDisk = 3, kOther = 4;

}  // namespace

TEST_CASE("a disk that has held somebody up is left alone for a while, and no other one") {
  DiskPace pace;
  CHECK(pace.quick(kDisk, 1000));
  pace.held_up(kDisk, 1000);
  CHECK(!pace.quick(kDisk, 1000));
  CHECK(!pace.quick(kDisk, 999 + DiskPace::kShortestMs));
  CHECK(pace.quick(kDisk, 1000 + DiskPace::kShortestMs));
  CHECK(pace.quick(kOther, 1000));
}

TEST_CASE("the longer the sooner it comes again, up to a limit") {
  DiskPace pace;
  uint64_t now = 1000;
  for (uint64_t expected = DiskPace::kShortestMs; expected < 8 * DiskPace::kLongestMs; expected *= 2) {
    pace.held_up(kDisk, now);
    const uint64_t pause = std::min(expected, DiskPace::kLongestMs);
    CHECK(!pace.quick(kDisk, now + pause - 1));
    now += pause;
    CHECK(pace.quick(kDisk, now));
  }
  now += 5 * DiskPace::kLongestMs;
  pace.held_up(kDisk, now);
  CHECK(pace.quick(kDisk, now + DiskPace::kShortestMs));
}

TEST_CASE("of many disks those are forgotten that would be asked first") {
  DiskPace pace;
  for (dev_t disk = 0; disk < 200; ++disk) pace.held_up(disk, 1000 + disk / 10);
  CHECK(pace.quick(0, 1020));
  CHECK(!pace.quick(199, 1020));
}
