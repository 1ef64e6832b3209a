// SPDX-License-Identifier: MIT
// READs and WRITEs on their way to an endpoint that takes as many as it likes.
#include "workers/transport/rdma_queues.h"

#include <array>
#include <vector>

#include <doctest/doctest.h>

#include "tests/unit/workers/fabric/fake_fabric.h"

using namespace smbdirect::workers;  // NOLINT: a test speaks of one thing
using fake::FakeEndpoint;
using fake::Op;
using fake::PostError;

namespace {

struct NoHandler final : fabric::Handler {
  void on_established() override {}
  void on_completions(std::span<const fabric::Completion>) override {}
  void on_closed(const fabric::Close&) override {}
};

struct Rig {
  Arena arena;
  SlabPool pool{arena, 4096};
  Budget budget{1u << 20};
  NoHandler handler;
  FakeEndpoint endpoint{handler, 4, 4};  // three units of work, of four pieces, and one that is for SENDs
  Budget queue_budget{1u << 20};
  RdmaQueues queues{queue_budget};

  /// A WRITE of a slab's first `size` bytes.
  void write(uint32_t token, uint64_t offset, size_t size) {
    SlabRef slab = pool.acquire(budget);
    REQUIRE(slab);
    const auto bytes = slab.bytes().first(size);
    queues.write(std::move(slab), bytes, {offset, token});
  }
  [[nodiscard]] uint64_t slabs_held() const { return budget.used() / 4096; }
};

}  // namespace

TEST_CASE("neighbours in the peer's memory are one WRITE, as long as the gather list has room") {
  Rig rig;
  for (uint64_t i = 0; i < 5; ++i) rig.write(7, 1000 + i * 100, 100);  // 4 and 1
  rig.write(8, 1500, 100);                                             // other memory
  CHECK(rig.queues.writes_requested() == 6);
  CHECK_FALSE(rig.queues.all_posted());
  REQUIRE(rig.queues.post(rig.endpoint));
  const auto& work = rig.endpoint.work();
  REQUIRE(work.size() == 3);
  CHECK(work[0].pieces.size() == 4);
  CHECK(work[0].remote.offset == 1000);
  CHECK(work[1].pieces.size() == 1);
  CHECK(work[1].remote.offset == 1400);
  CHECK(work[2].remote.token == 8);
  CHECK(rig.queues.writes_posted() == 6);
  CHECK(rig.queues.all_posted());
  // The memory goes when the WRITE is done, not before.
  CHECK(rig.slabs_held() == 6);
  CHECK(rig.queues.write_done() == 4);
  CHECK(rig.slabs_held() == 2);
  CHECK(rig.queues.write_done() == 1);
  CHECK(rig.queues.write_done() == 1);
  CHECK(rig.slabs_held() == 0);
}

TEST_CASE("each operation knows when it was posted, until it is done") {
  Rig rig;
  std::array<std::byte, 64> memory{};
  rig.write(7, 1000, 100);
  rig.queues.read(memory, 1, {2000, 8}, 41);
  REQUIRE(rig.queues.post(rig.endpoint, 10));
  rig.write(7, 5000, 100);
  REQUIRE(rig.queues.post(rig.endpoint, 20));
  CHECK(rig.queues.read_posted_at() == 10);
  CHECK(rig.queues.read_done() == 41);
  CHECK(rig.queues.write_posted_at() == 10);
  CHECK(rig.queues.write_done() == 1);
  CHECK(rig.queues.write_posted_at() == 20);
  CHECK(rig.queues.write_done() == 1);
}

TEST_CASE("a gap, an overlap and an earlier address are WRITEs of their own") {
  Rig rig;
  rig.write(7, 1000, 100);
  rig.write(7, 1101, 100);
  rig.write(7, 1200, 100);
  REQUIRE(rig.queues.post(rig.endpoint));
  CHECK(rig.endpoint.work().size() == 3);
}

TEST_CASE("what there is no room for waits, READs go first, and cookies come back in order") {
  Rig rig;
  std::array<std::byte, 64> sink{};
  rig.write(7, 1000, 100);
  for (uint64_t cookie = 41; cookie < 45; ++cookie) rig.queues.read(sink, 5, {cookie, 9}, cookie);
  REQUIRE(rig.queues.post(rig.endpoint));
  REQUIRE(rig.endpoint.work().size() == 3);
  for (const auto& one : rig.endpoint.work()) CHECK(one.op == Op::rdma_read);
  CHECK(rig.endpoint.work()[0].pieces[0].key == 5);
  CHECK(rig.queues.reads_outstanding() == 3);
  CHECK(rig.queues.writes_posted() == 0);
  CHECK_FALSE(rig.queues.all_posted());
  CHECK(rig.queues.read_done() == 41);
  CHECK(rig.queues.read_done() == 42);

  FakeEndpoint more(rig.handler, 3, 4);
  REQUIRE(rig.queues.post(more));
  REQUIRE(more.work().size() == 2);
  CHECK(more.work()[0].op == Op::rdma_read);
  CHECK(more.work()[1].op == Op::rdma_write);
  CHECK(rig.queues.all_posted());
  CHECK(rig.queues.read_done() == 43);
  CHECK(rig.queues.read_done() == 44);
  CHECK(rig.queues.reads_outstanding() == 0);
}

TEST_CASE("what is refused stays, keeps its memory, and does not hold up the other queue") {
  Rig rig;
  std::array<std::byte, 64> sink{};
  rig.queues.read(sink, 5, {1, 9}, 41);
  rig.write(7, 1000, 100);
  rig.endpoint.refuses = {{Op::rdma_read, PostError::not_registered}};
  const auto posted = rig.queues.post(rig.endpoint);
  REQUIRE_FALSE(posted);
  CHECK(posted.error() == PostError::not_registered);
  CHECK(rig.queues.writes_posted() == 1);
  CHECK(rig.queues.reads_outstanding() == 0);
  rig.write(7, 2000, 100);
  rig.endpoint.refuses = {{Op::rdma_write, PostError::queue_full}};
  CHECK(rig.queues.post(rig.endpoint).error() == PostError::queue_full);
  CHECK(rig.queues.reads_outstanding() == 1);
  CHECK(rig.slabs_held() == 2);
  rig.endpoint.refuses.clear();
  REQUIRE(rig.queues.post(rig.endpoint));
  CHECK(rig.queues.all_posted());
}

TEST_CASE("READs and WRITEs leave a share of the send queue to SENDs, of every size of it") {
  CHECK(reserved_for_sends(1) == 1);
  CHECK(reserved_for_sends(4) == 1);
  CHECK(reserved_for_sends(64) == 16);
  CHECK(reserved_for_sends(1024) == 256);
  CHECK(reserved_for_sends(65536) == 256);
  Arena arena;
  NoHandler handler;
  Budget budget{1u << 20};
  FakeEndpoint endpoint{handler, 64, 4};
  RdmaQueues queues{budget};
  std::array<std::byte, 8> into{};
  for (uint64_t i = 0; i < 200; ++i) queues.read(into, 0, {i, 1}, i);
  REQUIRE(queues.post(endpoint));
  CHECK(endpoint.send_room() == 16);
}

TEST_CASE("what waits and what is under way is charged, and given back when it is done or dropped") {
  Arena arena;
  NoHandler handler;
  Budget budget{1u << 20};
  FakeEndpoint endpoint{handler, 64, 4};
  std::array<std::byte, 8> bytes{};
  {
    RdmaQueues queues{budget};
    for (uint64_t i = 0; i < 100; ++i) queues.write({}, bytes, {i * 100, 1});
    const uint64_t all = budget.used();
    CHECK(all >= 100 * sizeof(fabric::RemoteMemory));
    REQUIRE(queues.post(endpoint));
    CHECK(budget.used() == all);
    for (int i = 0; i < 48; ++i) (void)queues.write_done();
    CHECK(budget.used() < all);
    CHECK(budget.used() > 0);
  }
  CHECK(budget.used() == 0);
}
