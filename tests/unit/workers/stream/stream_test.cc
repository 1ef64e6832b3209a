// SPDX-License-Identifier: MIT
#include <algorithm>
#include <array>
#include <fcntl.h>
#include <numeric>
#include <random>
#include <sys/socket.h>
#include <unistd.h>
#include <vector>

#include <doctest/doctest.h>

#include "shm/base/unique_fd.h"
#include "tests/unit/unix_sockets.h"
#include "workers/memory/slab.h"
#include "workers/stream/outbox.h"
#include "workers/stream/reader.h"

using namespace smbdirect::workers;  // NOLINT: a test speaks of one thing
using smbdirect::shm::UniqueFd;

TEST_CASE("a budget within a budget: all or nothing") {
  Budget outer(100);
  Budget inner(60, &outer);
  CHECK(inner.charge(60));
  CHECK_FALSE(inner.charge(1));
  CHECK(outer.used() == 60);
  Budget other(60, &outer);
  CHECK_FALSE(other.charge(41));
  CHECK(other.used() == 0);
  CHECK(other.charge(40));
  other.force(10);
  CHECK(outer.used() == 110);
  CHECK_FALSE(outer.has_room(1));
  inner.refund(60);
  other.refund(50);
  CHECK(outer.used() == 0);
}

TEST_CASE("the last reference returns a slab to its pool and its bytes to the budget") {
  Arena arena;
  SlabPool pool(arena, 4096);
  Budget budget(8192);
  SlabRef a = pool.acquire(budget);
  SlabRef b = a.share();
  SlabRef c = pool.acquire(budget);
  CHECK_FALSE(pool.acquire(budget));
  CHECK(pool.acquire_forced(budget));
  CHECK(budget.used() == 8192);
  a.reset();
  CHECK(budget.used() == 8192);
  CHECK(b.sole());
  b.reset();
  CHECK(budget.used() == 4096);
  c = SlabRef{};
  CHECK(pool.slabs_in_use() == 0);
  CHECK(budget.used() == 0);
}

TEST_CASE("a block of its own is charged, usable and given back") {
  Arena arena;
  Budget budget(10u << 20);
  {
    SlabRef block = acquire_block(arena, 9u << 20, budget);
    REQUIRE(block);
    block.bytes().back() = std::byte{7};
    CHECK(budget.used() == 9u << 20);
    CHECK_FALSE(acquire_block(arena, 2u << 20, budget));
  }
  CHECK(budget.used() == 0);
}

TEST_CASE("payload lies in the arena's blocks, and registrars hear before one goes") {
  struct Registrar final : Arena::Registrar {
    explicit Registrar(Arena& of) : arena(of) {}
    [[nodiscard]] bool holds(uint32_t) const override { return false; }
    void block_gone(uint32_t key) override {
      CHECK_FALSE(arena.block(key).empty());
      gone.push_back(key);
    }
    Arena& arena;
    std::vector<uint32_t> gone;
  };
  Arena arena;
  Registrar registrar(arena);
  arena.watch(registrar);
  Budget budget(UINT64_MAX);
  uint32_t first = 0;
  {
    SlabPool pool(arena, 1u << 20);
    std::vector<SlabRef> slabs;
    for (int i = 0; i < 5; ++i) slabs.push_back(pool.acquire(budget));
    for (const SlabRef& slab : slabs) {
      const auto block = arena.block(slab.key());
      CHECK(slab.bytes().data() >= block.data());
      CHECK(slab.bytes().data() + slab.bytes().size() <= block.data() + block.size());
    }
    first = slabs[0].key();
    CHECK(slabs[4].key() != first);
    const SlabRef block = acquire_block(arena, 100, budget);
    CHECK(arena.block(block.key()).data() == block.bytes().data());
    slabs.clear();
    CHECK(registrar.gone.empty());
  }
  CHECK(registrar.gone.size() == 3);
  CHECK(arena.block(first).empty());
  CHECK(arena.block(0).empty());
  std::array<std::byte, 4> memory{};
  CHECK(std::ranges::count(registrar.gone, arena.add(memory)) == 1);  // numbers are used again
  arena.unwatch(registrar);
}

TEST_CASE("a stream through outbox and reader arrives unchanged whatever the pieces") {
  const uint64_t seed = std::random_device{}();
  MESSAGE("seed " << seed);
  std::mt19937_64 random(seed);
  for (int round = 0; round < 40; ++round) {
    Arena arena;
    SlabPool pool(arena, 1u << (8 + random() % 8));
    Budget budget(64u << 20);
    auto [left, right] = smbdirect::test::socket_pair();
    std::vector<std::byte> sent, received;
    {
      Outbox out;
      StreamReader in(pool, budget);
      for (int i = 0; i < 400; ++i) {
        const size_t size = 1 + random() % (random() % 4 == 0 ? pool.slab_size() : 100);
        SlabRef slab = pool.acquire(budget);
        REQUIRE(slab);
        const auto bytes = slab.bytes().first(std::min<size_t>(size, pool.slab_size()));
        for (auto& b : bytes) b = static_cast<std::byte>(random());
        sent.insert(sent.end(), bytes.begin(), bytes.end());
        if (bytes.size() <= Outbox::kInlineBytes && random() % 2 == 0) {
          out.push_copy(bytes);
        } else {
          out.push(std::move(slab), bytes);
        }
      }
      CHECK(out.bytes() == sent.size());
      while (received.size() < sent.size()) {
        REQUIRE(out.flush(left.get()));
        const auto filled = in.fill(right.get(), 1 + random() % 100'000);
        REQUIRE(filled);
        while (in.available() > 0 && random() % 8 != 0) {
          if (random() % 3 == 0) {
            const size_t count = 1 + random() % std::min<size_t>(in.available(), 100);
            std::array<std::byte, 112> scratch{};
            const auto seen = in.peek(count, scratch);
            received.insert(received.end(), seen.begin(), seen.end());
            in.skip(count);
          } else {
            auto chunk = in.take(1 + random() % 5000);
            received.insert(received.end(), chunk.bytes.begin(), chunk.bytes.end());
          }
        }
      }
      CHECK(out.empty());
      CHECK(out.bytes() == 0);
      in.trim();
      CHECK(pool.slabs_in_use() == 0);
    }
    CHECK(received == sent);
    CHECK(budget.used() == 0);
  }
}

TEST_CASE("a reader says why it stopped: drained, out of memory, end") {
  Arena arena;
  SlabPool pool(arena, 1024);
  Budget budget(2048);
  auto [left, right] = smbdirect::test::socket_pair();
  StreamReader in(pool, budget);
  CHECK(*in.fill(right.get(), 4096) == StreamReader::Fill::drained);
  std::vector<std::byte> bytes(5000, std::byte{1});
  REQUIRE(::write(left.get(), bytes.data(), bytes.size()) == 5000);
  CHECK(*in.fill(right.get(), 4096) == StreamReader::Fill::more);
  CHECK(in.available() == 2048);
  CHECK(*in.fill(right.get(), 4096) == StreamReader::Fill::no_memory);
  in.skip(2048);
  CHECK(*in.fill(right.get(), 4096) == StreamReader::Fill::more);
  in.skip(in.available());
  CHECK(*in.fill(right.get(), 4096) == StreamReader::Fill::drained);
  in.skip(in.available());
  left.reset();
  CHECK(*in.fill(right.get(), 4096) == StreamReader::Fill::end);
  in.clear();
}

TEST_CASE("what was read by other means stands before what is read, over slabs; none where memory is short") {
  Arena arena;
  SlabPool pool(arena, 4096);
  Budget budget(3 * 4096);
  std::vector<std::byte> bytes(6000);
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = std::byte(i * 7 & 0xff);
  {
    StreamReader in(pool, budget);
    REQUIRE(in.put(bytes));
    REQUIRE(in.available() == bytes.size());
    std::vector<std::byte> scratch(bytes.size());
    CHECK(std::ranges::equal(in.peek(bytes.size(), scratch), bytes));
    auto [left, right] = smbdirect::test::socket_pair();
    REQUIRE(::write(left.get(), bytes.data(), 100) == 100);
    CHECK(*in.fill(right.get(), 100) == StreamReader::Fill::drained);
    in.skip(bytes.size());
    CHECK(std::ranges::equal(in.front(100), std::span(bytes).first(100)));
    CHECK_FALSE(in.put(std::vector<std::byte>(3 * 4096)));
  }
  CHECK(budget.used() == 0);
}

TEST_CASE("small messages share a slab while earlier ones are still held") {
  Arena arena;
  SlabPool pool(arena, 4096);
  Budget budget(1u << 20);
  auto [left, right] = smbdirect::test::socket_pair();
  StreamReader in(pool, budget);
  std::vector<StreamReader::Chunk> held;
  for (int i = 0; i < 30; ++i) {
    const std::array<std::byte, 100> message{std::byte(i)};
    REQUIRE(::write(left.get(), message.data(), message.size()) == 100);
    REQUIRE(in.fill(right.get(), 4096));
    held.push_back(in.take(100));
    CHECK(held.back().bytes[0] == std::byte(i));
  }
  CHECK(pool.slabs_in_use() == 1);
  held.clear();
  in.trim();
  CHECK(pool.slabs_in_use() == 0);
}
