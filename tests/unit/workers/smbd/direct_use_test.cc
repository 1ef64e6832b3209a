// SPDX-License-Identifier: MIT
// What links to one smbd know of each other: the newest ChannelSequence of an open, and what is under way.
#include "workers/smbd/direct_use.h"

#include <atomic>
#include <optional>
#include <thread>

#include <doctest/doctest.h>

#include "direct_rig.h"

using namespace smbdirect::workers;  // NOLINT: a test speaks of one thing
using namespace smbdirect::workers::session_test;

namespace {

std::unique_ptr<DirectUse> link_of(int memory, uint32_t row) {
  auto use = DirectUse::open(memory, row, {});
  REQUIRE(use);
  return std::move(*use);
}

}  // namespace

TEST_CASE("the newest sequence is that of the open which is there, goes up only, and wraps around") {
  const auto memory = DirectRig::make_use();
  const auto a = link_of(memory.get(), 0), b = link_of(memory.get(), 1);
  CHECK(a->is_newest(2, 1, DirectRig::kSequence));
  CHECK_FALSE(a->is_newest(2, 2, DirectRig::kSequence));
  b->raise(2, 1, 9);
  CHECK(a->is_newest(2, 1, 9));
  a->raise(2, 1, 8);
  CHECK(b->is_newest(2, 1, 9));
  a->raise(2, 2, 10);  // of an open that is not there
  CHECK(b->is_newest(2, 1, 9));
  a->raise(2, 1, 0x7FFF);
  a->raise(2, 1, 0xFFFE);
  b->raise(2, 1, 3);
  CHECK(a->is_newest(2, 1, 3));
  CHECK(a->is_newest(3, 1, DirectRig::kSequence));  // another slot
}

TEST_CASE("a mark is seen by all links as long as it is there, and counted") {
  const auto memory = DirectRig::make_use();
  const auto a = link_of(memory.get(), 0), b = link_of(memory.get(), SMBDIRECT_USE_ROWS - 1);
  std::optional<DirectUse::Mark> one, two;
  one.emplace(*a, 4095, uint16_t{3});
  two.emplace(*a, 4095, uint16_t{3});
  CHECK(b->older_under_way(4095, 4));
  CHECK(a->older_under_way(4095, 4));
  CHECK_FALSE(b->older_under_way(4095, 3));
  CHECK_FALSE(b->older_under_way(4094, 4));
  one.reset();
  CHECK(b->older_under_way(4095, 4));
  two.reset();
  CHECK_FALSE(b->older_under_way(4095, 4));
  one.emplace(*a, 4095, uint16_t{4});
  CHECK_FALSE(b->older_under_way(4095, 4));
  CHECK(b->older_under_way(4095, 5));
}

TEST_CASE("an open that is to be closed is nobody's, whatever is raised, and all that is under way is seen") {
  const auto memory = DirectRig::make_use();
  const auto a = link_of(memory.get(), 0), b = link_of(memory.get(), 1);
  CHECK_FALSE(a->under_way(2));
  const auto mark = std::make_unique<DirectUse::Mark>(*a, 2, DirectRig::kSequence);
  CHECK(b->under_way(2));
  CHECK_FALSE(b->under_way(3));
  b->close(2, 2);  // of an open that is not there
  CHECK(a->is_newest(2, 1, DirectRig::kSequence));
  b->close(2, 1);
  b->close(2, 1);
  CHECK_FALSE(a->is_newest(2, 1, DirectRig::kSequence));
  a->raise(2, 1, 9);
  CHECK_FALSE(a->is_newest(2, 1, 9));
  CHECK(DirectRig::sequence_in(memory.get(), 2) == 9);
  DirectRig::set_sequence(memory.get(), 2, 0, 2);  // the next one there
  CHECK(a->is_newest(2, 2, 0));
}

TEST_CASE("whoever has raised the sequence and seen no mark finds that nothing older begins") {
  const auto memory = DirectRig::make_use();
  constexpr uint32_t kSlot = 5;
  constexpr int kRounds = 2'000;
  uint32_t late = 0;
  for (int round = 0; round < kRounds; ++round) {
    const auto sequence = uint16_t(round);
    DirectRig::set_sequence(memory.get(), kSlot, sequence);
    const auto a = link_of(memory.get(), 0), b = link_of(memory.get(), 1);
    std::atomic<bool> over = false, wrong = false, stop = false;
    std::thread writer([&] {
      while (!stop.load()) {
        const DirectUse::Mark mark(*a, kSlot, sequence);
        if (!a->is_newest(kSlot, 1, sequence)) continue;
        if (over.load()) wrong = true;  // the WRITE would be done here
      }
    });
    b->raise(kSlot, 1, uint16_t(sequence + 1));
    while (b->older_under_way(kSlot, uint16_t(sequence + 1))) std::this_thread::yield();
    over = true;
    std::this_thread::yield();
    stop = true;
    writer.join();
    late += wrong ? 1 : 0;
  }
  CHECK(late == 0);
}
