// SPDX-License-Identifier: MIT
// The set of used MessageIds against a plain one, over random orders.
#include "protocol/smb2/used_ids.h"

#include <random>
#include <set>

#include <doctest/doctest.h>

namespace smb2_test {

using smbdirect::protocol::smb2::UsedIds;

TEST_CASE("in order nothing lies above") {
  UsedIds ids;
  for (uint64_t id = 0; id < 100000; id += 7) REQUIRE(ids.use(id, 7));
  CHECK(ids.low() == 100002);
  CHECK(ids.above() == 0);
  CHECK_FALSE(ids.use(100001, 2));
  CHECK(ids.unused(100002, UsedIds::kMost));
  CHECK_FALSE(ids.unused(100003, UsedIds::kMost));
  CHECK_FALSE(ids.unused(~uint64_t{0}, 1));
}

TEST_CASE("random orders") {
  for (uint32_t seed = 1; seed <= 20; ++seed) {
    INFO("seed ", seed);
    std::mt19937_64 random(seed);
    const uint64_t reach = uint64_t{64} << random() % 10;
    UsedIds ids;
    std::set<uint64_t> used;
    uint64_t low = 0;
    for (int i = 0; i < 3000; ++i) {
      const uint64_t first = random() % 3 == 0 ? low : low + random() % reach;
      const auto count = uint32_t(1 + random() % 20);
      bool free = true;
      for (uint64_t id = first; id < first + count; ++id) free = free && !used.contains(id);
      REQUIRE(ids.unused(first, count) == free);
      REQUIRE(ids.use(first, count) == free);
      for (uint64_t id = first; free && id < first + count; ++id) used.insert(id);
      while (used.contains(low)) used.erase(low++);
      // A set of ids above `low` is all that is kept, and what is below is used.
      REQUIRE(ids.low() == low);
      REQUIRE(ids.above() == used.size());
      if (low != 0) REQUIRE_FALSE(ids.unused(low - 1, 1));
    }
  }
}

}  // namespace smb2_test
