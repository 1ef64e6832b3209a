// SPDX-License-Identifier: MIT
// What a peer owes and does not do: found in its time; and a slow one is left alone.
#include <chrono>
#include <optional>
#include <thread>

#include <doctest/doctest.h>

#include "tests/unit/workers/fabric/fake_fabric.h"
#include "workers/transport/progress_watch.h"
#include "workers/transport/transport.h"

using namespace smbdirect::workers;  // NOLINT: a test speaks of one thing
using fake::FakeEndpoint;

TEST_CASE("what is owed is overdue when nothing of it has moved for the time") {
  ProgressWatch watch(1000);
  watch.observe(Owed::read_data, true, 7, 100);
  CHECK(watch.since() == 100);
  CHECK_FALSE(watch.overdue(1099));
  CHECK(watch.overdue(1100) == Owed::read_data);
  watch.observe(Owed::read_data, true, 8, 1100);  // a byte
  CHECK_FALSE(watch.overdue(2099));
  watch.observe(Owed::read_data, false, 8, 2000);
  CHECK_FALSE(watch.overdue(UINT64_MAX - 1));
  CHECK(watch.since() == ProgressWatch::kNever);
}

TEST_CASE("kinds are watched apart: answers to one do not excuse the other") {
  ProgressWatch watch(1000);
  for (uint64_t now = 0; now <= 1000; now += 100) {
    watch.observe(Owed::read_data, true, 7, now);
    watch.observe(Owed::taking, true, now, now);
  }
  CHECK(watch.overdue(1000) == Owed::read_data);
}

TEST_CASE("more than a trickle: what moves less than the quantum counts as stuck since it last did") {
  ProgressWatch watch(ProgressWatch::kNever, 1000);
  uint64_t mark = 0;
  for (uint64_t now = 0; now < 10'000; now += 100) watch.observe(Owed::taking, true, ++mark, now);
  CHECK(watch.since() == 0);
  watch.observe(Owed::taking, true, mark + 1000, 10'000);
  CHECK(watch.since() == 10'000);
}

namespace {

struct Side final : Transport::Owner {
  void on_negotiated() override {}
  void on_fragment(Fragment) override {}
  void on_read_done(uint64_t) override {}
  void on_invalidated(uint32_t) override {}
  void on_progress() override {}
  void on_fault(const std::string& why) override { fault = why; }
  void on_closed(const std::string&, bool) override {}
  std::string fault;
};

/// A server whose peer is the test.
struct Rig {
  explicit Rig(uint64_t timeout_ms) {
    uv_loop_init(&loop);
    transport.emplace(loop,
                      Transport::Config{.role = smb_direct::Role::passive,
                                        .limits = {},
                                        .receive_pool = receives,
                                        .header_pool = headers,
                                        .budget = budget,
                                        .progress_timeout_ms = timeout_ms},
                      side);
    REQUIRE(transport->start([&](auto& handler) {
      auto made = std::make_unique<FakeEndpoint>(handler);
      end = made.get();
      return made;
    }));
    end->establish();
  }
  ~Rig() {
    transport.reset();
    uv_run(&loop, UV_RUN_DEFAULT);
    CHECK(uv_loop_close(&loop) == 0);
    CHECK(budget.used() == 0);
  }
  void run_for(uint64_t ms, const std::function<void()>& meanwhile) {
    for (const uint64_t until = uv_now(&loop) + ms; uv_now(&loop) < until && side.fault.empty();) {
      meanwhile();
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
      uv_run(&loop, UV_RUN_NOWAIT);
    }
  }

  uv_loop_t loop{};
  Arena arena;
  SlabPool receives{arena, 8192};
  SlabPool headers{arena, 4096};
  Budget budget{1ull << 30};
  Side side;
  std::optional<Transport> transport;
  FakeEndpoint* end = nullptr;
};

}  // namespace

TEST_CASE("RDMA READs that are not answered end the connection, with the reason") {
  Rig rig(200);
  std::array<std::byte, 64> into{};
  rig.end->progress_now.reading = true;
  rig.transport->rdma_read(into, 0, {0x1000, 1}, 1);
  rig.transport->pump();
  rig.run_for(20'000, [] {});
  CHECK(rig.side.fault.find("RDMA READ") != std::string::npos);
}

TEST_CASE("as long as a byte of their data comes now and then, they may take as long as they like") {
  Rig rig(200);
  std::array<std::byte, 64> into{};
  rig.end->progress_now.reading = true;
  rig.transport->rdma_read(into, 0, {0x1000, 1}, 1);
  rig.transport->pump();
  rig.run_for(1500, [&] { ++rig.end->progress_now.read; });
  CHECK(rig.side.fault.empty());
}
