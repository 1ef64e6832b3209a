// SPDX-License-Identifier: MIT
// Channels on their way to the process that serves their client, through one worker after another.
#include <unistd.h>

#include <doctest/doctest.h>

#include "peer_desk_rig.h"

using namespace smbdirect::daemon;        // NOLINT: a test of one part and what it speaks to
using namespace smbdirect::daemon::test;  // NOLINT
namespace shm = smbdirect::shm;

namespace {

ino_t inode(const shm::UniqueFd& fd) { return smbdirect::test::inode(fd.get()); }

/// A client that this process serves through all three workers, and one more connection of it, 9 of worker 0,
/// whose channel is passed.
struct Passing : Desk {
  shm::UniqueFd kept;  // the channel's other end
  ino_t channel{};

  Passing() {
    serve(1, 0, guid(1));
    serve(2, 1, guid(1));
    serve(3, 2, guid(1));
    owned(9, 0, guid(1));
  }
  void pass() {
    auto [ours, theirs] = socket_pair();
    kept = std::move(ours);
    channel = inode(theirs);
    desk.passed(0, 9, std::move(theirs));
  }
  /// Closed everywhere, as far as the desk is concerned.
  [[nodiscard]] bool dropped() const { return ended(kept); }
};

}  // namespace

TEST_CASE("a channel goes to the first worker that has the process, and then it is settled") {
  Passing desk;
  desk.pass();
  {
    const auto asked = desk.asked(0);
    CHECK(inode(asked.descriptor) == desk.channel);
  }
  CHECK(desk.silent());
  CHECK_FALSE(desk.dropped());
  desk.desk.channel_up(0, 9);
  CHECK(desk.dropped());
  CHECK(desk.desk.totals() == "processes_asked=0 channels_passed=1");
}

TEST_CASE("a worker that cannot pass it gives way to the next, and the last to a process that is started") {
  Passing desk;
  desk.pass();
  const uint64_t first = desk.asked(0).message.sequence;
  desk.desk.not_passed(1, first);      // it was not asked
  desk.desk.not_passed(0, first + 7);  // this was not asked
  CHECK(desk.silent());
  desk.desk.not_passed(0, first);
  const auto second = desk.asked(1);
  CHECK(inode(second.descriptor) == desk.channel);
  CHECK(second.message.sequence != first);
  desk.desk.not_passed(0, first);  // a late word
  CHECK(desk.silent());
  desk.desk.not_passed(1, second.message.sequence);
  // The third has no process now: nobody waits for its silence.
  const uint64_t began = desk.loop.now();
  until(desk.loop, [&] {
    if (auto received = desk.told(0)) {
      CHECK(received->message.type == MessageType::claimed);
      CHECK(received->message.offer == 9);
      CHECK(received->message.error == uint32_t(ClaimOutcome::granted));
      return true;
    }
    return false;
  });
  CHECK(desk.loop.now() - began < PeerDesk::kPassMs / 2);
  CHECK(desk.silent());
  desk.desk.not_passed(1, second.message.sequence);
  CHECK(desk.silent());
}

TEST_CASE("a process that does not take the channel in time gets another one, through the next worker") {
  Passing desk;
  desk.pass();
  (void)desk.asked(0);
  const uint64_t began = desk.loop.now();
  const auto again = [&] {
    std::optional<Received> next;
    until(desk.loop, [&] { return (next = desk.told(0)).has_value(); });
    CHECK(next->message.type == MessageType::claimed);
    CHECK(next->message.offer == 9);
    return ClaimOutcome(next->message.error);
  };
  CHECK(again() == ClaimOutcome::owner);
  CHECK(desk.loop.now() - began >= PeerDesk::kPassMs - 50);
  CHECK(desk.dropped());  // the former one, which the process may read yet
  desk.pass();
  (void)desk.asked(1);
  SUBCASE("it takes that") {
    desk.desk.channel_up(0, 9);
    CHECK(desk.dropped());
  }
  SUBCASE("nor that") {
    CHECK(again() == ClaimOutcome::granted);
    CHECK(desk.dropped());
    CHECK(desk.loop.now() - began < PeerDesk::kAllPassesMs + 500);
  }
  CHECK(desk.silent());
}

TEST_CASE("a worker that dies while it is asked is not waited for") {
  Passing desk;
  desk.pass();
  (void)desk.asked(0);
  // Of another worker's channel, for this one's own goes with it.
  desk.owned(10, 1, guid(1));
  auto [ours, theirs] = socket_pair();
  desk.desk.passed(1, 10, std::move(theirs));
  (void)desk.asked(0);
  const uint64_t began = desk.loop.now();
  desk.desk.forget_worker(0);
  CHECK(desk.dropped());
  std::optional<Received> next;
  until(desk.loop, [&] { return (next = desk.told(1)).has_value(); });
  CHECK(next->message.type == MessageType::claimed);
  CHECK(next->message.error == uint32_t(ClaimOutcome::owner));
  CHECK(desk.loop.now() - began < PeerDesk::kPassMs / 2);
  CHECK(ended(ours));
}

TEST_CASE("a connection that ends takes its channel along, as does the end of it all") {
  Passing desk;
  desk.pass();
  (void)desk.asked(0);
  SUBCASE("the connection") { desk.desk.forget(0, 9); }
  SUBCASE("everything") { desk.desk.close(); }
  SUBCASE("not another's") {
    desk.desk.forget(1, 9);
    desk.desk.forget_worker(1);
    CHECK_FALSE(desk.dropped());
    desk.desk.forget(0, 9);
  }
  CHECK(desk.dropped());
  turn(desk.loop);
  CHECK(desk.silent());
}

TEST_CASE("one channel is passed for each time that its worker was told of a process") {
  Passing desk;
  desk.pass();
  (void)desk.asked(0);
  const shm::UniqueFd first = std::move(desk.kept);
  desk.pass();
  CHECK(desk.dropped());
  CHECK_FALSE(ended(first));
  CHECK(desk.silent());
}

TEST_CASE("only channels are passed on") {
  Passing desk;
  const shm::UniqueFd other(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  desk.desk.passed(0, 9, shm::UniqueFd(::dup(other.get())));
  desk.answered(0, 9, ClaimOutcome::granted);
  CHECK(desk.silent());
}

TEST_CASE(
    "where the process has gone meanwhile the claim is made again; where the channel was lost another "
    "starts") {
  Passing desk;
  SUBCASE("lost on the way") {
    desk.desk.passed(0, 9, shm::UniqueFd());
    desk.answered(0, 9, ClaimOutcome::granted);
  }
  SUBCASE("gone") {
    for (uint64_t number = 1; number <= 3; ++number) {
      desk.clients->channel_down(desk.ref(number - 1), number);
    }
    desk.pass();
    CHECK(desk.dropped());
    desk.answered(0, 9, ClaimOutcome::granted);
  }
  SUBCASE("gone, and another starts one") {
    for (uint64_t number = 1; number <= 3; ++number) {
      desk.clients->channel_down(desk.ref(number - 1), number);
    }
    desk.connect(10, 1);
    desk.clients->claimed(desk.ref(1), 10, guid(1));
    desk.answered(1, 10, ClaimOutcome::granted);
    desk.pass();
    desk.answered(0, 9, ClaimOutcome::wait);
    desk.clients->channel_up(desk.ref(1), 10, uint32_t(getpid()));
    desk.answered(0, 9, ClaimOutcome::owner);
  }
  CHECK(desk.silent());
  CHECK(desk.desk.totals() == "processes_asked=0 channels_passed=0");
}

TEST_CASE("a worker passes its own connections' channels, and only in a pool with native peers") {
  Passing desk;
  auto [one, two] = socket_pair();
  desk.desk.passed(1, 9, std::move(two));
  CHECK(ended(one));
  auto [three, four] = socket_pair();
  desk.desk.passed(1, 99, std::move(four));
  CHECK(ended(three));
  desk.desk.use(nullptr);
  desk.pass();
  CHECK(desk.dropped());
  desk.desk.worker_ready(0);
  CHECK(desk.silent());
}
