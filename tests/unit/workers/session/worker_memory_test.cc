// SPDX-License-Identifier: MIT
// Who may have how much of a worker's memory, and who ends when it is short.
#include "workers/session/worker_memory.h"

#include <arpa/inet.h>
#include <cstring>
#include <functional>
#include <memory>
#include <optional>

#include <doctest/doctest.h>

#include "workers/session/admission.h"
#include "workers/session/session_memory.h"

using namespace smbdirect::workers;  // NOLINT: a test speaks of one thing

namespace {

constexpr uint64_t kMiB = 1u << 20;

sockaddr_storage address(const char* text) {
  sockaddr_storage out{};
  auto& v4 = reinterpret_cast<sockaddr_in&>(out);
  auto& v6 = reinterpret_cast<sockaddr_in6&>(out);
  if (::inet_pton(AF_INET, text, &v4.sin_addr) == 1) {
    v4.sin_family = AF_INET;
  } else {
    REQUIRE(::inet_pton(AF_INET6, text, &v6.sin6_addr) == 1);
    v6.sin6_family = AF_INET6;
  }
  return out;
}

/// A loop, and the worker's memory on it.
struct Rig {
  explicit Rig(uint64_t limit, unsigned ipv6_prefix_length = 64) {
    uv_loop_init(&loop);
    memory.emplace(loop, limit, ipv6_prefix_length);
  }
  ~Rig() {
    memory.reset();
    uv_run(&loop, UV_RUN_DEFAULT);
    CHECK(uv_loop_close(&loop) == 0);
  }
  /// Runs the loop until it is so; the loop has timers of its own meanwhile.
  void until(const std::function<bool()>& done) {
    const uint64_t end = uv_now(&loop) + 20'000;
    while (!done() && uv_now(&loop) < end) uv_run(&loop, UV_RUN_ONCE);
    REQUIRE(done());
  }

  uv_loop_t loop{};
  std::optional<WorkerMemory> memory;
};

struct Holder final : MemoryHolder {
  explicit Holder(WorkerMemory& of) : memory(of) { memory.add(*this); }
  ~Holder() { memory.remove(*this); }
  [[nodiscard]] uint64_t reclaimable() const override { return held; }
  [[nodiscard]] uint64_t stuck_since() override { return since; }
  [[nodiscard]] bool waits_for_others() const override { return waits; }
  void let_through() override {
    waits = hungry;
    let = true;
    ++times;
  }
  void end_for_others(std::string reason) override { why = std::move(reason), held = 0; }

  WorkerMemory& memory;
  uint64_t held = 0;
  uint64_t since = UINT64_MAX;
  bool waits = false;
  bool hungry = false;  // waits again at once
  bool let = false;
  int times = 0;
  std::string why;
};

}  // namespace

TEST_CASE("a client is an IPv4 address, mapped or not, or an IPv6 network as the supervisor counts them") {
  for (const unsigned prefix : {48U, 64U, 128U}) {
    Rig rig(64 * kMiB, prefix);
    const auto same = [&rig](const char* one, const char* other) {
      const auto client = rig.memory->client(address(one));
      return client == rig.memory->client(address(other));
    };
    CAPTURE(prefix);
    CHECK(same("192.0.2.1", "::ffff:192.0.2.1"));
    CHECK_FALSE(same("192.0.2.1", "192.0.2.2"));
    CHECK(same("2001:db8::1", "2001:db8::1"));
    CHECK(same("2001:db8::1", "2001:db8::ffff:1") == (prefix <= 64));
    CHECK(same("2001:db8::1", "2001:db8:0:1::1") == (prefix <= 48));
    CHECK_FALSE(same("2001:db8::1", "2001:db8:1::1"));
  }
}

TEST_CASE("each client has its share of what is free: however many take all they can, one more finds room") {
  Rig rig(64 * kMiB);
  std::vector<std::shared_ptr<WorkerMemory::Client>> clients;
  uint64_t last = UINT64_MAX;
  for (int n = 1; n <= 16; ++n) {
    auto client = rig.memory->client(address(("192.0.2." + std::to_string(n)).c_str()));
    uint64_t taken = 0;
    while (rig.memory->fits(*client, 64 * 1024)) {
      client->held.force(64 * 1024);
      taken += 64 * 1024;
    }
    CHECK(taken > 0);
    CHECK(taken <= last);
    if (n == 1) CHECK(taken / kMiB == 12);  // a fifth
    last = taken;
    clients.push_back(std::move(client));
  }
  for (const auto& client : clients) client->held.refund(client->held.used());
}

TEST_CASE("a client's connections share its account, which goes with the last of them") {
  Rig rig(64 * kMiB);
  auto one = rig.memory->client(address("192.0.2.1"));
  const auto same = rig.memory->client(address("::ffff:192.0.2.1"));
  CHECK(one == same);
  one->promised.force(5);
  CHECK_FALSE(rig.memory->alone(*rig.memory->client(address("192.0.2.2"))));
  one->promised.refund(5);
}

TEST_CASE("of many that wait, and none that has anything to give, each is let through in its turn") {
  Rig rig(64 * kMiB);
  Holder first(*rig.memory), second(*rig.memory), third(*rig.memory);
  for (Holder* holder : {&first, &second, &third}) holder->waits = holder->hungry = true;
  rig.memory->somebody_waits();
  rig.until([&] { return first.times + second.times + third.times == 9; });
  CHECK(first.times == 3);
  CHECK(second.times == 3);
  CHECK(third.times == 3);
}

TEST_CASE(
    "where others wait, the connection ends that has longest moved nothing; with little to give, none") {
  Rig rig(64 * kMiB);
  Holder waiter(*rig.memory), poor(*rig.memory), lively(*rig.memory), stuck(*rig.memory), older(*rig.memory);
  const uint64_t now = uv_now(&rig.loop);
  waiter.waits = true;
  poor.held = 1000;
  poor.since = now > 9000 ? now - 9000 : 0;
  lively.held = 20 * kMiB;
  stuck.held = 10 * kMiB;
  stuck.since = now;
  older.held = kMiB;
  older.since = now > 5000 ? now - 5000 : 0;
  rig.memory->somebody_waits();
  rig.until([&] { return !older.why.empty(); });
  CHECK(older.why.find("1024 KiB") != std::string::npos);
  CHECK(older.why.find("other clients wait") != std::string::npos);
  CHECK(stuck.why.empty());
  rig.until([&] { return !stuck.why.empty(); });
  CHECK(uv_now(&rig.loop) - now >= 1000);
  CHECK(poor.why.empty());
  CHECK(lively.why.empty());
  // Nobody is left who could give: the one that waits is let through.
  rig.until([&] { return waiter.let; });
  CHECK(lively.why.empty());
}

TEST_CASE("nobody ends while nobody waits") {
  Rig rig(64 * kMiB);
  Holder waiter(*rig.memory), stuck(*rig.memory);
  stuck.held = 10 * kMiB;
  stuck.since = 0;
  waiter.waits = true;
  rig.memory->somebody_waits();
  waiter.waits = false;  // it got what it needs by itself
  uv_run(&rig.loop, UV_RUN_DEFAULT);
  CHECK(stuck.why.empty());
}

TEST_CASE("admission: an idle connection is served beyond its own limit, not beyond what others have") {
  Rig rig(64 * kMiB);
  const auto client = rig.memory->client(address("192.0.2.1"));
  const auto other = rig.memory->client(address("192.0.2.2"));
  Budget held(UINT64_MAX, &client->held);
  Admission admission(4 * kMiB, *rig.memory, client, held);
  CHECK(admission.room(kMiB, false) == Room::yes);
  CHECK(admission.room(8 * kMiB, false) == Room::own);
  CHECK(admission.room(8 * kMiB, true) == Room::yes);
  admission.reserve(256);  // the token of a request that waits: the connection is as idle as before
  CHECK(admission.room(8 * kMiB, true) == Room::yes);
  admission.reserve(8 * kMiB);
  CHECK(admission.room(1, true) == Room::own);
  admission.forget();
  other->held.force(60 * kMiB);
  CHECK(admission.room(8 * kMiB, true) == Room::others);
  CHECK(admission.room(64 * 1024, true) == Room::yes);
  other->held.force(18 * kMiB);  // and now the floors are
  CHECK(admission.room(64 * 1024, true) == Room::yes);
  other->held.force(18 * kMiB);
  CHECK(admission.room(64 * 1024, true) == Room::others);
  admission.let_through();
  CHECK(admission.room(8 * kMiB, true) == Room::yes);
  admission.reserve(1);
  admission.release(1);
  CHECK(admission.room(8 * kMiB, true) == Room::others);
  other->held.refund(other->held.used());
}

TEST_CASE("a late release takes no more than there is") {
  Rig rig(64 * kMiB);
  const auto client = rig.memory->client(address("192.0.2.1"));
  Budget held(UINT64_MAX, &client->held);
  {
    Admission admission(4 * kMiB, *rig.memory, client, held);
    admission.reserve(kMiB);
    admission.forget();
    admission.reserve(1000);
    admission.release(kMiB);
    CHECK(admission.reserved() == 0);
    admission.reserve(77);
  }
  CHECK(client->promised.used() == 0);
}

TEST_CASE("slabs and blocks: a floor each, and who is short of what") {
  Rig rig(64 * kMiB);
  Arena arena;
  SlabPool slabs(arena, 256 * 1024);
  const auto client = rig.memory->client(address("192.0.2.1"));
  const auto other = rig.memory->client(address("192.0.2.2"));
  Budget budget(2 * kMiB, &client->held);
  SessionMemory memory(*rig.memory, client, slabs, budget);
  std::vector<SlabRef> taken;
  SUBCASE("its own limit") {
    while (SlabRef slab = memory.slab(false)) taken.push_back(std::move(slab));
    CHECK(taken.size() == 8);
    CHECK(memory.short_of() == Room::own);
    CHECK(memory.block(4u << 20, false).operator bool() == false);
  }
  SUBCASE("others have all: one slab is there, and no more") {
    other->held.force(64 * kMiB);
    CHECK_FALSE(memory.slab(false));
    CHECK(memory.short_of() == Room::others);
    taken.push_back(memory.slab(true));
    CHECK(taken.back());
    CHECK_FALSE(memory.block(3u << 20, true));
    memory.let_through();
    taken.push_back(memory.block(3u << 20, true));
    CHECK(taken.back());
    CHECK_FALSE(memory.block(3u << 20, true));
    other->held.refund(64 * kMiB);
  }
  SUBCASE("a block larger than the connection's limit, for one that has nothing else") {
    CHECK_FALSE(memory.block(3u << 20, false));
    taken.push_back(memory.block(3u << 20, true));
    CHECK(taken.back());
  }
  taken.clear();
  CHECK(client->held.used() == 0);
}
