// SPDX-License-Identifier: MIT
// Messages on their way into fragments: what each gathers, what a token takes, how long memory is kept and
// what is charged.
#include "workers/transport/message_queue.h"

#include <array>
#include <random>
#include <vector>

#include <doctest/doctest.h>

using namespace smbdirect::workers;  // NOLINT: a test speaks of one thing

namespace {

constexpr uint32_t kSlab = 4096;

struct Rig {
  Arena arena;
  SlabPool pool{arena, kSlab};
  Budget memory{64u << 20};
  Budget budget{64u << 20};
  MessageQueue queue{budget};
  std::array<fabric::Sge, 15> sges{};

  void begin(uint64_t total, std::initializer_list<uint32_t> tokens = {}, uint64_t barrier = 0) {
    queue.begin(total, barrier, std::vector(tokens));
  }
  /// The next bytes, from a slab of their own.
  void append(size_t size) {
    SlabRef slab = pool.acquire(memory);
    REQUIRE(slab);
    const auto bytes = slab.bytes().first(size);
    queue.append(std::move(slab), bytes);
  }
  MessageQueue::Taken take(uint32_t payload) { return queue.take(payload, sges); }
  [[nodiscard]] uint64_t slabs_held() const { return memory.used() / kSlab; }
};

}  // namespace

TEST_CASE("messages keep their order, and each is ready as far as its own bytes are here") {
  Rig rig;
  CHECK(rig.queue.front() == nullptr);
  CHECK(rig.queue.ready() == 0);
  rig.begin(300, {}, 7);
  CHECK(rig.queue.ready() == 0);
  rig.append(100);
  CHECK(rig.queue.ready() == 100);
  rig.append(200);
  rig.begin(50, {}, 9);
  rig.append(50);
  CHECK(rig.queue.ready() == 300);
  CHECK(rig.queue.size() == 2);
  CHECK(rig.queue.front()->barrier == 7);
  CHECK(rig.take(300).pieces == 2);
  CHECK(rig.queue.front()->barrier == 9);
  CHECK(rig.queue.ready() == 50);
  CHECK(rig.take(50).pieces == 1);
  CHECK(rig.queue.empty());
}

TEST_CASE("a fragment gathers pieces, and what it does not take of one goes with the next") {
  Rig rig;
  rig.begin(250);
  rig.append(100);
  rig.append(150);
  CHECK(rig.take(130).pieces == 2);
  CHECK(rig.sges[0].length == 100);
  CHECK(rig.sges[1].length == 30);
  const auto* rest = static_cast<const std::byte*>(rig.sges[1].addr) + 30;
  CHECK(rig.queue.ready() == 120);
  CHECK(rig.take(120).pieces == 1);
  CHECK(rig.sges[0].addr == rest);
  CHECK(rig.sges[0].length == 120);
}

TEST_CASE("memory is kept until the SEND that uses it is done, and a piece of two SENDs until both are") {
  Rig rig;
  rig.begin(200);
  rig.append(100);
  rig.append(100);
  (void)rig.take(150);
  (void)rig.take(0);  // a grant between them
  (void)rig.take(50);
  CHECK(rig.slabs_held() == 2);
  rig.queue.sent();
  CHECK(rig.slabs_held() == 1);
  rig.queue.sent();
  CHECK(rig.slabs_held() == 1);
  rig.queue.sent();
  CHECK(rig.slabs_held() == 0);
}

TEST_CASE("each token goes with a fragment of its own, and no fragment is so large that one had none") {
  Rig rig;
  rig.begin(10, {21, 22, 23});
  rig.append(10);
  CHECK(rig.queue.fragment_cap(15) == 3);
  CHECK(rig.take(0).token == std::nullopt);  // carries nothing of the message
  CHECK(rig.take(3).token == 21);
  CHECK(rig.queue.fragment_cap(15) == 3);
  CHECK(rig.take(3).token == 22);
  CHECK(rig.queue.fragment_cap(15) == UINT32_MAX);
  CHECK(rig.take(4).token == 23);
  rig.begin(1);
  rig.append(1);
  CHECK(rig.take(1).token == std::nullopt);
}

TEST_CASE("a fragment is no longer than what its gather list can hold") {
  Rig rig;
  rig.begin(1000);
  for (int i = 0; i < 10; ++i) rig.append(100);
  CHECK(rig.queue.fragment_cap(15) == UINT32_MAX);
  CHECK(rig.queue.fragment_cap(10) == UINT32_MAX);
  CHECK(rig.queue.fragment_cap(3) == 300);
  CHECK(rig.take(50).pieces == 1);
  CHECK(rig.queue.fragment_cap(3) == 250);
}

TEST_CASE("what is queued is charged for, and nothing is left of it: any messages, in any fragments") {
  std::mt19937 bits(1);  // the same each time
  const auto random = [&] { return uint32_t(bits()); };
  Rig rig;
  for (int round = 0; round < 200; ++round) {
    uint64_t due = 0;
    size_t tokens = 0;
    for (uint32_t n = 1 + random() % 3; n > 0; --n) {
      const uint32_t pieces = 1 + random() % 20;
      const uint32_t each = 1 + random() % 300;
      std::vector<uint32_t> invalidate(random() % std::min(pieces * each + 1, 4U));
      tokens += invalidate.size();
      rig.queue.begin(uint64_t{pieces} * each, 0, invalidate);
      for (uint32_t i = 0; i < pieces; ++i) rig.append(each);
      due += uint64_t{pieces} * each;
    }
    CHECK(rig.budget.used() > 0);
    size_t sends = 0;
    while (!rig.queue.empty()) {
      const uint64_t most = std::min<uint64_t>(rig.queue.ready(), rig.queue.fragment_cap(15));
      const auto payload = uint32_t(1 + random() % most);
      const auto taken = rig.take(payload);
      REQUIRE(taken.pieces <= rig.sges.size());
      uint64_t gathered = 0;
      for (uint32_t i = 0; i < taken.pieces; ++i) gathered += rig.sges[i].length;
      REQUIRE(gathered == payload);
      due -= payload;
      tokens -= taken.token ? 1 : 0;
      ++sends;
    }
    REQUIRE(due == 0);
    REQUIRE(tokens == 0);
    REQUIRE(rig.budget.used() == 0);
    for (; sends > 0; --sends) rig.queue.sent();
    REQUIRE(rig.slabs_held() == 0);
    rig.queue.trim();
  }
}
