// SPDX-License-Identifier: MIT
// Parts of an area: none twice, all of it to be had, and again after it came back.
#include "workers/smbd/area_room.h"

#include <cstdint>
#include <map>
#include <random>

#include <doctest/doctest.h>

using smbdirect::workers::AreaRoom;

TEST_CASE("all of an area can be had, and no more") {
  AreaRoom room(4 * AreaRoom::kUnitBytes + 5);
  CHECK_FALSE(room.take(4 * AreaRoom::kUnitBytes + 1));
  CHECK(room.take(1) == 0);
  CHECK(room.take(AreaRoom::kUnitBytes + 1) == AreaRoom::kUnitBytes);
  CHECK(room.take(AreaRoom::kUnitBytes) == 3 * AreaRoom::kUnitBytes);
  CHECK_FALSE(room.take(1));
  room.give_back(AreaRoom::kUnitBytes, AreaRoom::kUnitBytes + 1);
  CHECK_FALSE(room.take(3 * AreaRoom::kUnitBytes));
  CHECK(room.take(2 * AreaRoom::kUnitBytes) == AreaRoom::kUnitBytes);
  CHECK(room.units_in_use() == 4);
}

TEST_CASE("no room at all, and no length") {
  AreaRoom none;
  CHECK_FALSE(none.take(1));
  AreaRoom room(1 << 20);
  CHECK_FALSE(room.take(0));
  CHECK_FALSE(room.take(UINT32_MAX));
}

TEST_CASE("random use: parts never overlap, and it is all free in the end") {
  std::mt19937 random(20261129);
  constexpr uint64_t kBytes = 64 * AreaRoom::kUnitBytes;
  AreaRoom room(kBytes);
  std::map<uint64_t, uint32_t> taken;
  for (int round = 0; round < 100'000; ++round) {
    if (random() % 2 == 0 && !taken.empty()) {
      const auto at = std::next(taken.begin(), ptrdiff_t(random() % taken.size()));
      room.give_back(at->first, at->second);
      taken.erase(at);
      continue;
    }
    const auto length = uint32_t(1 + random() % (9 * AreaRoom::kUnitBytes));
    const auto offset = room.take(length);
    if (!offset) continue;
    REQUIRE(*offset + length <= kBytes);
    const auto next = taken.lower_bound(*offset);
    if (next != taken.end()) REQUIRE(*offset + length <= next->first);
    if (next != taken.begin()) REQUIRE(std::prev(next)->first + std::prev(next)->second <= *offset);
    taken.emplace(*offset, length);
  }
  for (const auto& [offset, length] : taken) room.give_back(offset, length);
  CHECK(room.units_in_use() == 0);
  CHECK(room.take(kBytes) == 0);
}
