// SPDX-License-Identifier: MIT
// How soon a worker gives back what a crowd has left, and how much of it at once.
#include "workers/memory/housekeeper.h"

#include <cstddef>
#include <cstdint>
#include <vector>

#include <doctest/doctest.h>
#include <uv.h>

#include "tests/unit/workers/fake_clock.h"

using namespace smbdirect::workers;  // NOLINT: a test speaks of one thing

namespace {

struct Rig {
  Rig() {
    uv_loop_init(&loop);
    pools.assign({&pool});
  }
  ~Rig() {
    uv_run(&loop, UV_RUN_DEFAULT);
    CHECK(uv_loop_close(&loop) == 0);
  }
  void pass(uint64_t ms) {
    clock.advance(ms);
    uv_update_time(&loop);
    uv_run(&loop, UV_RUN_NOWAIT);
    now_ms += ms;
  }

  fake::FakeClock clock;
  uv_loop_t loop{};
  Arena arena;
  SlabPool pool{arena, 8192};
  std::vector<SlabPool*> pools;
  uint64_t now_ms = 0;
};

}  // namespace

TEST_CASE("what thousands of connections leave is given back within seconds, in short parts") {
  constexpr uint64_t kCrowd = 8ull << 30;  // 4,000 connections with 255 receives each
  constexpr uint64_t kRoundMs = Housekeeper::kTurnMs * Housekeeper::kRound;
  constexpr uint64_t kParts = kCrowd / SlabPool::kTrimBytes;
  Rig rig;
  Budget budget(UINT64_MAX);
  std::vector<SlabRef> slabs;
  for (uint64_t bytes = 0; bytes < kCrowd; bytes += 8192) slabs.push_back(rig.pool.acquire(budget));
  size_t turns = 0;
  {
    Housekeeper housekeeper(rig.loop, rig.pools, [] { return size_t{0}; }, [&](size_t) { ++turns; });
    slabs.clear();
    size_t chunks = rig.pool.chunks();
    CHECK(chunks == kCrowd / SlabPool::kChunkBytes);
    while (rig.pool.chunks() > 1 && rig.now_ms < 60'000) {
      rig.pass(Housekeeper::kPartMs / 2);
      const size_t now = rig.pool.chunks();
      REQUIRE(chunks - now <= SlabPool::kTrimBytes / SlabPool::kChunkBytes);
      chunks = now;
    }
    CHECK(rig.pool.chunks() == 1);
    // A round in which it was not needed has to go by whole; another may have begun.
    CHECK(rig.now_ms <= 2 * kRoundMs + kParts * Housekeeper::kPartMs + Housekeeper::kTurnMs);
    // Connections have their turns as ever.
    CHECK(turns == rig.now_ms / Housekeeper::kTurnMs);
  }
}
