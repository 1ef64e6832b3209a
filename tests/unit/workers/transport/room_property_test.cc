// SPDX-License-Identifier: MIT
// Transport, engine and a fabric of little room whose completions come in random order, against a peer that
// keeps to the protocol but not to anybody's convenience: it grants late, one by one or never, and answers
// RDMA READs late or never. ROOM_SEED=N repeats one case.
#include <cstdlib>
#include <random>

#include <doctest/doctest.h>

#include "tests/unit/workers/transport/room_case.h"

using namespace smbdirect::workers;  // NOLINT: a test speaks of one thing
using namespace room;                // NOLINT
using fabric::Op;

namespace {

struct Habits {
  bool answers_reads{};
  uint64_t grants{};  // at a time; 0: never
  bool completes{};   // SENDs and WRITEs are acknowledged
  bool talks{};
};

void step(Case& c, const Habits& peer, bool work) {
  switch (c.pick(0, 11)) {
    case 0:
      if (work && c.append_left_ == 0) c.begin_some();
      break;
    case 1:
      if (c.append_left_ > 0) c.append_some(c.pick(1, 400));
      break;
    case 2:
      if (work) c.read_some(c.pick(1, 12));
      break;
    case 3:
      if (work && c.append_left_ == 0) c.write_some(c.pick(1, 6));
      break;
    case 4:
      if (peer.completes) c.end->complete(Op::send);
      break;
    case 5:
      if (peer.completes) c.end->complete(Op::rdma_write);
      break;
    case 6:
      if (peer.answers_reads) c.end->complete(Op::rdma_read);
      break;
    case 7:
    case 8:
      if (peer.talks) c.say(std::min(peer.grants, c.wants()));
      break;
    case 9:
      if (work && c.to_say_ < 4) ++c.to_say_;
      break;
    case 10:
      c.transport->hold_grants(work && c.chance(2));
      break;
    default:
      c.retain = work ? c.pick(0, 3) : 0;
      if (c.chance(2)) c.retained.clear();
  }
  c.turn();
  if (c.chance(3)) c.wait(c.pick(1, 20));
}

/// A peer that does all it owes, until nothing is left to do.
void finish(Case& c) {
  c.retain = 0;
  c.retained.clear();
  c.transport->hold_grants(false);
  while (c.append_left_ > 0) c.append_some(400);
  for (int i = 0; i < 4'000 && !c.all_done() && !c.over(); ++i) {
    for (const Op op : {Op::send, Op::rdma_write, Op::rdma_read}) c.end->complete(op);
    // The last credit goes with a grant, if need be of one more than it wants (MS-SMBD 3.1.5.9).
    if (c.asked_ || c.to_say_ > 0 || c.say_left_ > 0 || c.granted_ < 4)
      c.say(std::max<uint64_t>(1, c.wants()));
    c.wait(5);
  }
}

uint64_t first_seed() {
  const char* chosen = std::getenv("ROOM_SEED");
  return chosen != nullptr ? std::strtoull(chosen, nullptr, 10) : std::random_device{}();
}
uint64_t cases(uint64_t count) { return std::getenv("ROOM_SEED") != nullptr ? 1 : count; }

}  // namespace

TEST_CASE("little room, random order, late grants: what was begun is finished once the peer does its part") {
  Pools pools;
  fake::FakeClock clock;
  const uint64_t first = first_seed();
  MESSAGE("ROOM_SEED " << first);
  for (uint64_t seed = first; seed < first + cases(1'200); ++seed) {
    INFO("ROOM_SEED=" << seed);
    Case c(pools, clock, seed);
    const Habits peer{.answers_reads = !c.chance(3),
                      .grants = c.chance(2) ? 1 : c.pick(0, 10),
                      .completes = !c.chance(4),
                      .talks = true};
    for (int i = 0; i < 90 && !c.over(); ++i) step(c, peer, true);
    CHECK(c.ended == "");
    finish(c);
    CHECK(c.ended == "");
    const bool done = c.all_done();
    INFO(c.state());
    CHECK(done);
    c.check();
    if (!done || c.failures != "") break;
  }
}

TEST_CASE("a peer that stops for ever at anything is ended in time, and the loop rests meanwhile") {
  Pools pools;
  fake::FakeClock clock;
  const uint64_t first = first_seed();
  MESSAGE("ROOM_SEED " << first);
  for (uint64_t seed = first; seed < first + cases(1'200); ++seed) {
    INFO("ROOM_SEED=" << seed);
    Case c(pools, clock, seed);
    const Habits well{.answers_reads = true, .grants = 8, .completes = true, .talks = true};
    for (int i = 0; i < 30 && !c.over(); ++i) step(c, well, true);
    REQUIRE(c.ended == "");
    // Something of each that it can fail to do; more READs than there is room for, sometimes.
    c.transport->hold_grants(false);
    while (c.append_left_ > 0) c.append_some(1'000);
    c.begin_some();
    c.append_some(10'000);
    c.read_some(c.pick(1, 30));
    Habits ill = well;
    const uint64_t which = c.pick(0, 3);
    if (which == 0) ill.answers_reads = false;
    if (which == 1) ill.grants = 0;
    if (which == 2) ill.completes = false;
    if (which == 3) ill.talks = false;
    const bool gone = c.chance(2);  // all of it: a peer that has vanished
    if (gone) ill = {};
    if (c.chance(2)) c.transport->hold_grants(true);
    INFO("the peer stops at " << which << ", all: " << gone);
    for (int i = 0; i < 40 && !c.over(); ++i) step(c, ill, false);
    // Keeps doing the rest: what it does must not hide what it does not.
    for (uint64_t second = 0; second < 400 && !c.over(); ++second) {
      c.stand(1'000);
      if (c.over()) break;
      for (int i = 0; i < 4; ++i) {
        if (ill.completes) c.end->complete(Op::send), c.end->complete(Op::rdma_write);
        if (ill.answers_reads) c.end->complete(Op::rdma_read);
        if (ill.talks && (c.asked_ || ill.grants > 0)) c.say(std::min(ill.grants, c.wants()));
      }
      if (ill.grants == 0 || !ill.talks || !ill.completes || !ill.answers_reads) {
        if (c.quiet()) break;  // it owed nothing of that
      }
    }
    const bool ended = c.over() || c.quiet();
    INFO(c.state());
    CHECK(ended);
    c.check();
    if (!ended || c.failures != "") break;
  }
}

TEST_CASE("RDMA READs that are never answered keep no message and no grant back") {
  Pools pools;
  fake::FakeClock clock;
  const uint64_t first = first_seed();
  MESSAGE("ROOM_SEED " << first);
  for (uint64_t seed = first; seed < first + cases(400); ++seed) {
    INFO("ROOM_SEED=" << seed);
    Case c(pools, clock, seed);
    c.read_some(c.pick(20, 60));
    c.turn();
    for (int n = 0; n < 20 && !c.over(); ++n) {
      c.begin_some();
      c.append_some(10'000);
      ++c.to_say_;
      for (int i = 0; i < 400 && (c.sent_.n < c.messages_begun || c.to_say_ + c.say_left_ > 0) && !c.over();
           ++i) {
        c.end->complete(Op::send);
        c.say(std::max<uint64_t>(1, c.wants()));
        c.wait(1);
      }
    }
    CHECK(c.ended == "");
    CHECK(c.sent_.n == 20);
    CHECK(c.received_.n == 20);
    c.check();
    if (c.sent_.n != 20 || c.received_.n != 20 || c.failures != "") break;
  }
}
