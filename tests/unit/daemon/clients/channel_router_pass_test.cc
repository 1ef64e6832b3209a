// SPDX-License-Identifier: MIT
// Channels on their way to the process that serves their client, through one worker after another.
#include <unistd.h>

#include <doctest/doctest.h>

#include "channel_router_rig.h"
#include "tests/unit/shm/connection_literal.h"

using smbdirect::operator""_c;
using namespace smbdirect::daemon;        // NOLINT: a test of one part and what it speaks to
using namespace smbdirect::daemon::test;  // NOLINT
namespace shm = smbdirect::shm;

namespace {

ino_t inode(const shm::UniqueFd& fd) { return smbdirect::test::inode(fd.get()); }

/// A client that this process serves through all three workers, and one more connection of it, 9 of worker 0,
/// whose channel is passed.
struct Passing : RouterRig {
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
    router.passed(0, 9_c, std::move(theirs));
  }
  /// Closed everywhere, as far as the router is concerned.
  [[nodiscard]] bool dropped() const { return ended(kept); }
};

}  // namespace

TEST_CASE("a channel goes to the first worker that has the process, and then it is settled") {
  Passing router;
  router.pass();
  {
    const auto asked = router.asked(0);
    CHECK(inode(asked.descriptor) == router.channel);
  }
  CHECK(router.silent());
  CHECK_FALSE(router.dropped());
  router.router.channel_up(0, 9_c);
  CHECK(router.dropped());
  CHECK(shm::totals_text(router.router.totals()) == "processes_asked=0 channels_passed=1");
}

TEST_CASE("a worker that cannot pass it gives way to the next, and the last to a process that is started") {
  Passing router;
  router.pass();
  const uint64_t first = router.asked(0).sequence;
  router.router.not_passed(1, first);      // it was not asked
  router.router.not_passed(0, first + 7);  // this was not asked
  CHECK(router.silent());
  router.router.not_passed(0, first);
  const auto second = router.asked(1);
  CHECK(inode(second.descriptor) == router.channel);
  CHECK(second.sequence != first);
  router.router.not_passed(0, first);  // a late word
  CHECK(router.silent());
  router.router.not_passed(1, second.sequence);
  // The third has no process now: nobody waits for its silence.
  const uint64_t began = router.loop.now();
  until(router.loop, [&] {
    if (auto received = router.told(0)) {
      const auto& claimed = std::get<message::Claimed>(received->message);
      CHECK(claimed.connection == 9_c);
      CHECK(claimed.outcome == ClaimOutcome::granted);
      return true;
    }
    return false;
  });
  CHECK(router.loop.now() - began < ChannelRouter::kPassMs / 2);
  CHECK(router.silent());
  router.router.not_passed(1, second.sequence);
  CHECK(router.silent());
}

TEST_CASE("a process that does not take the channel in time gets another one, through the next worker") {
  Passing router;
  router.pass();
  (void)router.asked(0);
  const uint64_t began = router.loop.now();
  const auto again = [&] {
    std::optional<Received<FromSupervisor>> next;
    until(router.loop, [&] { return (next = router.told(0)).has_value(); });
    const auto& claimed = std::get<message::Claimed>(next->message);
    CHECK(claimed.connection == 9_c);
    return claimed.outcome;
  };
  CHECK(again() == ClaimOutcome::owner);
  CHECK(router.loop.now() - began >= ChannelRouter::kPassMs - 50);
  CHECK(router.dropped());  // the former one, which the process may read yet
  router.pass();
  (void)router.asked(1);
  SUBCASE("it takes that") {
    router.router.channel_up(0, 9_c);
    CHECK(router.dropped());
  }
  SUBCASE("nor that") {
    CHECK(again() == ClaimOutcome::granted);
    CHECK(router.dropped());
    CHECK(router.loop.now() - began < ChannelRouter::kAllPassesMs + 500);
  }
  CHECK(router.silent());
}

TEST_CASE("a worker that dies while it is asked is not waited for") {
  Passing router;
  router.pass();
  (void)router.asked(0);
  // Of another worker's channel, for this one's own goes with it.
  router.owned(10, 1, guid(1));
  auto [ours, theirs] = socket_pair();
  router.router.passed(1, 10_c, std::move(theirs));
  (void)router.asked(0);
  const uint64_t began = router.loop.now();
  router.router.forget_worker(0);
  CHECK(router.dropped());
  std::optional<Received<FromSupervisor>> next;
  until(router.loop, [&] { return (next = router.told(1)).has_value(); });
  CHECK(std::get<message::Claimed>(next->message).outcome == ClaimOutcome::owner);
  CHECK(router.loop.now() - began < ChannelRouter::kPassMs / 2);
  CHECK(ended(ours));
}

TEST_CASE("a connection that ends takes its channel along, as does the end of it all") {
  Passing router;
  router.pass();
  (void)router.asked(0);
  SUBCASE("the connection") { router.router.forget(0, 9_c); }
  SUBCASE("everything") { router.router.close(); }
  SUBCASE("not another's") {
    router.router.forget(1, 9_c);
    router.router.forget_worker(1);
    CHECK_FALSE(router.dropped());
    router.router.forget(0, 9_c);
  }
  CHECK(router.dropped());
  turn(router.loop);
  CHECK(router.silent());
}

TEST_CASE("one channel is passed for each time that its worker was told of a process") {
  Passing router;
  router.pass();
  (void)router.asked(0);
  const shm::UniqueFd first = std::move(router.kept);
  router.pass();
  CHECK(router.dropped());
  CHECK_FALSE(ended(first));
  CHECK(router.silent());
}

TEST_CASE("only channels are passed on") {
  Passing router;
  const shm::UniqueFd other(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  router.router.passed(0, 9_c, shm::UniqueFd(::dup(other.get())));
  router.answered(0, shm::ConnectionId{9}, ClaimOutcome::granted);
  CHECK(router.silent());
}

TEST_CASE(
    "where the process has gone meanwhile the claim is made again; where the channel was lost another "
    "starts") {
  Passing router;
  SUBCASE("lost on the way") {
    router.router.passed(0, 9_c, shm::UniqueFd());
    router.answered(0, shm::ConnectionId{9}, ClaimOutcome::granted);
  }
  SUBCASE("gone") {
    for (uint64_t number = 1; number <= 3; ++number) {
      router.clients->channel_down(router.ref(number - 1), shm::ConnectionId{number});
    }
    router.pass();
    CHECK(router.dropped());
    router.answered(0, shm::ConnectionId{9}, ClaimOutcome::granted);
  }
  SUBCASE("gone, and another starts one") {
    for (uint64_t number = 1; number <= 3; ++number) {
      router.clients->channel_down(router.ref(number - 1), shm::ConnectionId{number});
    }
    router.connect(10, 1);
    router.clients->claimed(router.ref(1), 10_c, guid(1));
    router.answered(1, shm::ConnectionId{10}, ClaimOutcome::granted);
    router.pass();
    router.answered(0, shm::ConnectionId{9}, ClaimOutcome::wait);
    router.clients->channel_up(router.ref(1), 10_c, uint32_t(getpid()));
    router.answered(0, shm::ConnectionId{9}, ClaimOutcome::owner);
  }
  CHECK(router.silent());
  CHECK(shm::totals_text(router.router.totals()) == "processes_asked=0 channels_passed=0");
}

TEST_CASE("a worker passes its own connections' channels, and only in a pool with native peers") {
  Passing router;
  auto [one, two] = socket_pair();
  router.router.passed(1, 9_c, std::move(two));
  CHECK(ended(one));
  auto [three, four] = socket_pair();
  router.router.passed(1, 99_c, std::move(four));
  CHECK(ended(three));
  router.router.use(nullptr);
  router.pass();
  CHECK(router.dropped());
  router.router.worker_ready(0);
  CHECK(router.silent());
}
