// SPDX-License-Identifier: MIT
// Memory that comes back after a burst: queues and slabs. What is steady keeps what it has.
#include <algorithm>
#include <array>
#include <cstring>
#include <deque>
#include <memory>
#include <random>
#include <sys/mman.h>
#include <vector>

#include <doctest/doctest.h>

#include "workers/memory/ring.h"
#include "workers/memory/slab.h"

namespace smbdirect::workers {
namespace {

TEST_CASE("a ring is a queue, whenever it is trimmed") {
  const uint64_t seed = std::random_device{}();
  MESSAGE("seed " << seed);
  std::mt19937_64 random(seed);
  for (int round = 0; round < 50; ++round) {
    Ring<std::unique_ptr<uint64_t>> ring(1 + random() % 8);
    std::deque<uint64_t> model;
    uint64_t next = 0;
    for (int step = 0; step < 2000; ++step) {
      const bool grows = random() % 100 < (step / 200 % 2 == 0 ? 70 : 30);
      if (grows) {
        ring.push(std::make_unique<uint64_t>(next));
        model.push_back(next++);
      } else if (!model.empty()) {
        if (random() % 2 == 0) {
          CHECK(*ring.pop() == model.front());
        } else {
          ring.drop();
        }
        model.pop_front();
      }
      if (random() % 20 == 0) ring.trim();
      if (random() % 200 == 0 && model.size() > 3) {
        ring.drop_newest(2);
        model.resize(model.size() - 2);
      }
      REQUIRE(ring.size() == model.size());
      if (model.empty()) continue;
      const size_t i = random() % model.size();
      REQUIRE(*ring.at(i) == model[i]);
      REQUIRE(*ring.back() == model.back());
    }
  }
}

TEST_CASE("a ring gives back what a burst needed, and keeps what is steady") {
  Ring<uint64_t> ring;
  CHECK(ring.capacity() == 0);
  const auto burst = [&ring](size_t n) {
    for (size_t i = 0; i < n; ++i) ring.push(i);
    ring.clear();
  };
  burst(100'000);
  CHECK(ring.capacity() >= 100'000);
  ring.trim();  // it was needed since the last time
  CHECK(ring.capacity() >= 100'000);
  ring.push(1);
  ring.trim();
  CHECK(ring.capacity() == 16);
  CHECK(ring.pop() == 1);
  ring.trim();
  ring.trim();
  CHECK(ring.capacity() == 0);
  burst(1000);
  ring.trim();
  const size_t steady = ring.capacity();
  for (int i = 0; i < 20; ++i) {
    burst(1000);
    ring.trim();
    CHECK(ring.capacity() == steady);
  }
}

/// Says which blocks a device has.
struct Device final : Arena::Registrar {
  void block_gone(uint32_t key) override { gone.push_back(key); }
  [[nodiscard]] bool holds(uint32_t key) const override { return all || std::ranges::count(held, key) > 0; }
  bool all = false;
  std::vector<uint32_t> held, gone;
};

size_t resident(std::span<const std::byte> bytes) {
  std::vector<unsigned char> pages((bytes.size() + 4095) / 4096);
  REQUIRE(::mincore(const_cast<std::byte*>(bytes.data()), bytes.size(), pages.data()) == 0);
  return static_cast<size_t>(
      std::ranges::count_if(pages, [](unsigned char page) { return (page & 1) != 0; }));
}

void fill(const SlabRef& slab, int value) { std::memset(slab.bytes().data(), value, slab.bytes().size()); }

struct PoolFixture {
  Arena arena;
  Device device;
  Budget budget{UINT64_MAX};
  SlabPool pool{arena, 8192};
  const size_t per_chunk = SlabPool::kChunkBytes / 8192;

  PoolFixture() { arena.watch(device); }
  ~PoolFixture() { arena.unwatch(device); }
  std::vector<SlabRef> take(size_t count) {
    std::vector<SlabRef> slabs;
    for (size_t i = 0; i < count; ++i) {
      slabs.push_back(pool.acquire(budget));
      fill(slabs.back(), 7);
    }
    return slabs;
  }
};

TEST_CASE_FIXTURE(PoolFixture, "slabs of a burst go back, but for one chunk of them") {
  auto slabs = take(20 * per_chunk);
  CHECK(pool.chunks() == 20);
  slabs.clear();
  CHECK(pool.chunks() == 20);
  pool.trim();  // it was needed since the last time
  CHECK(pool.chunks() == 20);
  pool.trim();
  CHECK(pool.chunks() == 4);  // a share
  pool.trim(false);
  CHECK(pool.chunks() == 1);
  CHECK(device.gone.size() == 19);
  for (int i = 0; i < 5; ++i) pool.trim();
  CHECK(pool.chunks() == 1);
  slabs = take(per_chunk);  // what is kept is there
  CHECK(pool.chunks() == 1);
}

TEST_CASE_FIXTURE(PoolFixture, "what is used in every round stays") {
  for (int round = 0; round < 10; ++round) {
    auto slabs = take(5 * per_chunk);
    slabs.clear();
    pool.trim();
    CHECK(pool.chunks() == 5);
  }
  CHECK(device.gone.empty());
}

TEST_CASE_FIXTURE(PoolFixture, "the first chunk is filled first, so that others become empty") {
  const uint64_t seed = std::random_device{}();
  MESSAGE("seed " << seed);
  std::mt19937_64 random(seed);
  auto slabs = take(30 * per_chunk);
  // One in ten is left; connections come and go for a while.
  std::ranges::shuffle(slabs, random);
  slabs.resize(slabs.size() / 10);
  for (int i = 0; i < 40'000; ++i) {
    slabs[random() % slabs.size()].reset();
    std::erase_if(slabs, [](const SlabRef& slab) { return !slab; });
    auto more = take(1);
    slabs.push_back(std::move(more[0]));
  }
  for (int i = 0; i < 5; ++i) pool.trim();
  CHECK(pool.slabs_in_use() == 3 * per_chunk);
  CHECK(pool.chunks() <= 6);
}

TEST_CASE_FIXTURE(PoolFixture, "free pages of a chunk that is in use go back, unless a device has them") {
  for (const bool registered : {false, true}) {
    CAPTURE(registered);
    device.all = registered;
    auto slabs = take(8 * per_chunk);
    std::vector<SlabRef> left;
    for (size_t i = 0; i < slabs.size(); i += per_chunk) left.push_back(slabs[i].share());
    slabs.clear();
    pool.trim();
    pool.trim();
    CHECK(pool.chunks() == 8);
    size_t pages = 0;
    for (const SlabRef& slab : left) {
      CHECK(slab.bytes()[100] == std::byte{7});
      pages += resident(arena.block(slab.key()));
    }
    if (registered) {
      CHECK(pages == 8 * SlabPool::kChunkBytes / 4096);
    } else {
      CHECK(pages <= 2 * SlabPool::kChunkBytes / 4096);
    }
    CHECK(device.gone.empty());
    left.clear();
    pool.trim();
    device.all = false;
    pool.trim();
    pool.trim();
    device.gone.clear();
  }
}

TEST_CASE_FIXTURE(PoolFixture, "a slab's pages can go while it is held") {
  auto slabs = take(3);
  slabs[1].discard();
  CHECK(resident(slabs[0].bytes()) == 2);
  CHECK(resident(slabs[1].bytes()) == 0);
  CHECK(resident(slabs[2].bytes()) == 2);
  device.held.push_back(slabs[0].key());
  slabs[2].discard();
  CHECK(resident(slabs[2].bytes()) == 2);
  CHECK(slabs[2].bytes()[0] == std::byte{7});
}

TEST_CASE("small and odd slabs keep what their neighbours have") {
  Arena arena;
  Budget budget(UINT64_MAX);
  SlabPool pool(arena, 5000);
  std::vector<SlabRef> slabs;
  for (int i = 0; i < 5; ++i) {
    slabs.push_back(pool.acquire(budget));
    fill(slabs.back(), i);
  }
  slabs[2].discard();
  for (const int i : {0, 1, 3, 4}) {
    CHECK(std::ranges::all_of(slabs[static_cast<size_t>(i)].bytes(),
                              [i](std::byte b) { return b == static_cast<std::byte>(i); }));
  }
}

}  // namespace
}  // namespace smbdirect::workers
