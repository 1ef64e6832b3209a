// SPDX-License-Identifier: MIT
// The seam to the loop: what comes again at once does not keep the loop from its descriptors, and a
// descriptor that takes the number of a closed one is watched as any other. A loop that never returns ends
// the program (alarm).
#include "shm/loop/loop.h"

#include <fcntl.h>
#include <memory>
#include <optional>
#include <sys/socket.h>
#include <unistd.h>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "shm/loop/watched.h"

using smbdirect::shm::Deferred;
using smbdirect::shm::Timer;
using smbdirect::shm::UniqueFd;
using smbdirect::shm::Watched;

namespace {

constexpr unsigned kLimitSeconds = 60;

class TestLoop {
 public:
  TestLoop() {
    ::alarm(kLimitSeconds);
    REQUIRE(uv_loop_init(&loop_) == 0);
  }
  ~TestLoop() {
    for (int i = 0; i < 10; ++i) uv_run(&loop_, UV_RUN_NOWAIT);
    CHECK_MESSAGE(uv_loop_close(&loop_) == 0, "a handle was left on the loop");
    ::alarm(0);
  }
  TestLoop(const TestLoop&) = delete;
  TestLoop& operator=(const TestLoop&) = delete;
  uv_loop_t& get() { return loop_; }
  /// False when the condition does not hold after many turns.
  template <class Condition>
  bool until(Condition condition) {
    for (int turns = 0; turns < 20'000 && !condition(); ++turns) {
      uv_run(&loop_, UV_RUN_NOWAIT);
      if (!condition()) ::usleep(100);
    }
    return condition();
  }

 private:
  uv_loop_t loop_{};
};

/// Two ends of a stream.
std::pair<UniqueFd, UniqueFd> ends() {
  int fds[2] = {-1, -1};
  REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) == 0);
  return {UniqueFd(fds[0]), UniqueFd(fds[1])};
}

void say(const UniqueFd& end) { REQUIRE(::write(end.get(), "x", 1) == 1); }

/// As a callback that has much to do; libuv's clock is then brought up to date, as some callbacks do.
void work(uv_loop_t& loop, long microseconds) {
  const uint64_t end = uv_hrtime() + static_cast<uint64_t>(microseconds) * 1000;
  while (uv_hrtime() < end) {
  }
  uv_update_time(&loop);
}

}  // namespace

TEST_CASE("a timer that is started for now in its own callback lets the loop poll") {
  TestLoop loop;
  auto [near, far] = ends();
  bool heard = false;
  Watched watched(loop.get(), std::move(near), [&](int, int) { heard = true; });
  watched.want(UV_READABLE);
  say(far);
  std::optional<Timer> timer;
  size_t runs = 0;
  timer.emplace(loop.get(), [&] {
    ++runs;
    if (!heard) timer->start(0);
  });
  timer->start(0);
  CHECK(loop.until([&] { return heard; }));
  watched.want(0);
  CHECK(loop.until([&] { return runs > 0; }));
}

TEST_CASE("timers that start each other for now let the loop poll, also when their work takes long") {
  TestLoop loop;
  auto [near, far] = ends();
  bool heard = false;
  Watched watched(loop.get(), std::move(near), [&](int, int) { heard = true; });
  watched.want(UV_READABLE);
  std::optional<Timer> one;
  std::optional<Timer> other;
  size_t runs = 0;
  const auto run = [&](std::optional<Timer>& next) {
    if (++runs == 20) say(far);  // after this a turn or two must do
    work(loop.get(), 2500);      // longer than the shortest timer
    if (!heard) next->start(0);
  };
  one.emplace(loop.get(), [&] { run(other); });
  other.emplace(loop.get(), [&] { run(one); });
  one->start(0);
  other->start(0);
  CHECK(loop.until([&] { return heard; }));
  CHECK(runs < 40);
  watched.want(0);
}

TEST_CASE("deferred work that triggers itself lets the loop poll and its timers run") {
  TestLoop loop;
  auto [near, far] = ends();
  bool heard = false;
  bool rang = false;
  Watched watched(loop.get(), std::move(near), [&](int, int) { heard = true; });
  watched.want(UV_READABLE);
  say(far);
  Timer timer(loop.get(), [&] { rang = true; });
  timer.start(1);
  std::optional<Deferred> deferred;
  deferred.emplace(loop.get(), [&] {
    if (!heard || !rang) deferred->trigger();
  });
  deferred->trigger();
  CHECK(loop.until([&] { return heard && rang; }));
  watched.want(0);
}

TEST_CASE("timers that are due in one round run in the order of their times") {
  TestLoop loop;
  std::vector<int> order;
  std::vector<std::unique_ptr<Timer>> timers;
  for (int i = 0; i < 5; ++i) {
    timers.push_back(std::make_unique<Timer>(loop.get(), [&order, i] { order.push_back(i); }));
    timers.back()->start(static_cast<uint64_t>(1 + i / 2));
  }
  ::usleep(20'000);
  CHECK(loop.until([&] { return order.size() == 5; }));
  CHECK(order == std::vector{0, 1, 2, 3, 4});
}

TEST_CASE("a timer is stopped, started anew and destroyed in callbacks, also when it is due") {
  TestLoop loop;
  int calls = 0;
  std::optional<Timer> victim;
  // Both are due in one round; the first to run stops the other.
  std::optional<Timer> stopper;
  victim.emplace(loop.get(), [&] {
    ++calls;
    stopper->stop();
  });
  stopper.emplace(loop.get(), [&] {
    ++calls;
    victim->stop();
  });
  victim->start(1);
  stopper->start(1);
  ::usleep(5000);
  CHECK(loop.until([&] { return calls > 0; }));
  for (int i = 0; i < 50; ++i) uv_run(&loop.get(), UV_RUN_NOWAIT);
  CHECK(calls == 1);
  victim.emplace(loop.get(), [&] {
    ++calls;
    victim.reset();
  });
  victim->start(0);
  CHECK(loop.until([&] { return !victim; }));
  CHECK(calls == 2);
}

TEST_CASE("a descriptor with the number of one that was closed is watched as any other") {
  TestLoop loop;
  const auto check = [&](auto close) {
    auto [near, far] = ends();
    const int number = near.get();
    int first = 0;
    Watched watched(loop.get(), std::move(near), [&](int, int) { ++first; });
    watched.want(UV_READABLE);
    uv_run(&loop.get(), UV_RUN_NOWAIT);  // now epoll has it
    watched.want(0);
    watched.want(UV_READABLE);
    close(watched);
    auto [next, other] = ends();
    if (next.get() != number) {
      REQUIRE(::dup2(next.get(), number) == number);
      next = UniqueFd(number);
    }
    int second = 0;
    Watched reused(loop.get(), std::move(next), [&](int, int) {
      char byte;
      second += ::read(number, &byte, 1) == 1 ? 1 : 0;
    });
    REQUIRE(reused.error() == 0);
    reused.want(UV_READABLE);
    uv_run(&loop.get(), UV_RUN_NOWAIT);  // the old handle's memory is freed, the new one is with epoll
    say(other);
    CHECK(loop.until([&] { return second == 1; }));
    CHECK(first == 0);
  };
  check([](auto& watched) { watched.reset(); });
  check([](auto& watched) { const UniqueFd closed = watched.release(); });
  check([](auto& watched) { watched = {}; });
}

TEST_CASE("a watch that is given another descriptor in its callback ends the first") {
  TestLoop loop;
  auto [near, far] = ends();
  auto [next, other] = ends();
  int calls = 0;
  Watched<UniqueFd> watched;
  const auto again = [&](int, int) {
    ++calls;
    watched.want(0);
  };
  watched = Watched(loop.get(), std::move(near), [&](int, int) {
    ++calls;
    watched = Watched(loop.get(), std::move(next), again);
    watched.want(UV_READABLE);
  });
  watched.want(UV_READABLE);
  say(far);
  say(other);
  CHECK(loop.until([&] { return calls == 2; }));
  for (int i = 0; i < 10; ++i) uv_run(&loop.get(), UV_RUN_NOWAIT);
  CHECK(calls == 2);
  CHECK(::send(far.get(), "x", 1, MSG_NOSIGNAL) < 0);  // it was closed
}

TEST_CASE("what cannot be watched is told from the loop, once for each time it is wanted") {
  TestLoop loop;
  // epoll takes no plain files.
  UniqueFd file(::open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
  REQUIRE(file.valid());
  int told = 0;
  int status = 0;
  {
    Watched watched(loop.get(), std::move(file), [&](int events, int error) {
      CHECK(events == 0);
      status = error;
      ++told;
    });
    CHECK(watched.error() < 0);
    CHECK(watched.valid());
    watched.want(UV_READABLE);
    CHECK(told == 0);
    CHECK(loop.until([&] { return told == 1; }));
    CHECK(status == watched.error());
    watched.want(UV_READABLE);
    CHECK(loop.until([&] { return told == 2; }));
    watched.want(UV_READABLE);
    watched.want(0);
    for (int i = 0; i < 10; ++i) uv_run(&loop.get(), UV_RUN_NOWAIT);
    CHECK(told == 2);
    watched.want(UV_READABLE);
  }
  for (int i = 0; i < 10; ++i) uv_run(&loop.get(), UV_RUN_NOWAIT);
  CHECK(told == 2);
}
