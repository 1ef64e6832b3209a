// SPDX-License-Identifier: MIT
// A loop that stays awake for what is likely to come soon: for how long is learned from its waits, on a clock
// that the test turns; it sleeps as soon as that is over or the processors are wanted by others, and always
// where nobody expects anything.
#include "shm/loop/busy_poll.h"

#include <fcntl.h>
#include <functional>
#include <memory>
#include <unistd.h>

#include <doctest/doctest.h>

#include "shm/base/processors.h"
#include "shm/loop/watched.h"

using smbdirect::shm::BusyPoll;
using smbdirect::shm::Processors;
using smbdirect::shm::running_of;
using smbdirect::shm::UniqueFd;
using smbdirect::shm::Watched;

namespace {

constexpr uint64_t kMicrosecond = 1'000;
constexpr uint32_t kMostUs = 100;

struct Rig {
  uv_loop_t loop{};
  uint64_t now = 1'000'000'000;
  uint64_t arrives = 0;
  bool suffice = true;
  int looks = 0;
  std::function<void()> on_event;
  UniqueFd write_end;
  Watched<UniqueFd> read_end;
  std::unique_ptr<BusyPoll> busy;

  explicit Rig(uint32_t most_us = kMostUs) {
    ::alarm(60);
    REQUIRE(uv_loop_init(&loop) == 0);
    int fds[2] = {-1, -1};
    REQUIRE(::pipe2(fds, O_CLOEXEC | O_NONBLOCK) == 0);
    write_end = UniqueFd(fds[1]);
    read_end = Watched<UniqueFd>(loop, UniqueFd(fds[0]), [this](int, int) {
      char byte = 0;
      if (::read(read_end.fd(), &byte, 1) != 1) return;
      now = arrives;
      if (on_event) on_event();
    });
    read_end.want(UV_READABLE);
    uv_run(&loop, UV_RUN_NOWAIT);
    busy = std::make_unique<BusyPoll>(loop, most_us,
                                      BusyPoll::Senses{.clock = [this] { return now; },
                                                       .processors_suffice =
                                                           [this] {
                                                             ++looks;
                                                             return suffice;
                                                           }});
  }
  ~Rig() {
    busy.reset();
    read_end.reset();
    for (int i = 0; i < 10; ++i) uv_run(&loop, UV_RUN_NOWAIT);
    CHECK_MESSAGE(uv_loop_close(&loop) == 0, "a handle was left on the loop");
    ::alarm(0);
  }
  Rig(const Rig&) = delete;
  Rig& operator=(const Rig&) = delete;

  /// Whether the loop would poll without sleeping, after a turn in which nothing comes.
  bool awake() {
    uv_run(&loop, UV_RUN_NOWAIT);
    return uv_backend_timeout(&loop) == 0;
  }
  /// Something comes, after so long.
  void comes_after(uint64_t us) {
    REQUIRE(::write(write_end.get(), "x", 1) == 1);
    arrives = now + us * kMicrosecond;
    uv_run(&loop, UV_RUN_ONCE);
  }
  /// The same, when it has just gone to sleep.
  void waits(uint64_t us) {
    busy->expect();
    const uint64_t limit = busy->limit();
    now += limit;
    comes_after(us - limit / kMicrosecond);
  }
};

}  // namespace

TEST_CASE("a loop sleeps at once until it has seen that its waits are short") {
  Rig rig;
  CHECK_FALSE(rig.awake());
  rig.busy->expect();
  CHECK_FALSE(rig.awake());
  CHECK(rig.looks == 0);
}

TEST_CASE("short waits double how long it stays awake, up to what is allowed; long ones halve it") {
  Rig rig;
  const uint64_t up[] = {10, 20, 40, 80, 100};
  for (const uint64_t us : up) {
    rig.waits(kMostUs - 1);
    CHECK(rig.busy->limit() == us * kMicrosecond);
  }
  const uint64_t down[] = {50'000, 25'000, 12'500, 0, 0};
  for (const uint64_t ns : down) {
    rig.waits(kMostUs);
    CHECK(rig.busy->limit() == ns);
  }
}

TEST_CASE("it stays awake that long after the last time that something was expected, and no longer") {
  Rig rig;
  rig.waits(5);
  rig.waits(5);
  REQUIRE(rig.busy->limit() == 20 * kMicrosecond);
  const uint64_t idled = rig.busy->idled();
  rig.busy->expect();
  CHECK(rig.awake());
  rig.now += 19 * kMicrosecond;
  CHECK(rig.awake());
  rig.busy->expect();
  rig.now += 19 * kMicrosecond;
  CHECK(rig.awake());
  rig.now += 1 * kMicrosecond;
  CHECK_FALSE(rig.awake());
  CHECK(rig.busy->idled() == idled + 20 * kMicrosecond);
  CHECK_FALSE(rig.awake());
}

TEST_CASE("what comes while it is awake is no wait: nothing is learned of it") {
  Rig rig;
  rig.waits(5);
  REQUIRE(rig.busy->limit() == 10 * kMicrosecond);
  rig.on_event = [&] { rig.busy->expect(); };
  rig.busy->expect();
  REQUIRE(rig.awake());
  for (int i = 0; i < 5; ++i) rig.comes_after(3);
  CHECK(rig.busy->limit() == 10 * kMicrosecond);
  CHECK(rig.awake());
}

TEST_CASE(
    "the wait ends where the next thing is expected, in the callback of what has come, and it sleeps again") {
  Rig rig;
  rig.on_event = [&] {
    rig.busy->expect();
    rig.now += 500 * kMicrosecond;  // of work: that is no wait
  };
  for (int i = 0; i < 5; ++i) rig.waits(kMostUs - 10);
  CHECK(rig.busy->limit() == kMostUs * kMicrosecond);
  rig.on_event = {};
  // Nothing comes any more.
  CHECK_FALSE(rig.awake());
  rig.busy->expect();
  CHECK(rig.awake());
  rig.now += kMostUs * kMicrosecond;
  CHECK_FALSE(rig.awake());
}

TEST_CASE("while more wants to run than there are processors, it sleeps at once, and looks now and then") {
  Rig rig;
  rig.waits(5);
  const auto expects_after = [&](uint64_t us) {
    rig.now += us * kMicrosecond;
    rig.busy->expect();
    return rig.awake();
  };
  REQUIRE(expects_after(5));
  rig.suffice = false;
  CHECK(expects_after(9));  // it has only just looked
  // For a moment that is nothing.
  CHECK(expects_after(1));
  CHECK(expects_after(10));
  rig.suffice = true;
  CHECK(expects_after(10));
  rig.suffice = false;
  CHECK(expects_after(10));
  CHECK(expects_after(10));
  CHECK_FALSE(expects_after(10));
  const int looks = rig.looks;
  for (int i = 0; i < 39; ++i) CHECK_FALSE(expects_after(100));
  CHECK(rig.looks == looks);
  CHECK_FALSE(expects_after(100));
  CHECK(rig.looks == looks + 1);
  rig.suffice = true;
  CHECK_FALSE(expects_after(3'999));
  CHECK(expects_after(1));
  CHECK(rig.looks == looks + 2);
}

TEST_CASE("where others keep the loop awake, that is no short wait") {
  Rig rig;
  uv_idle_t other{};
  REQUIRE(uv_idle_init(&rig.loop, &other) == 0);
  for (int i = 0; i < 5; ++i) {
    rig.busy->expect();
    uv_idle_start(&other, [](uv_idle_t*) {});
    uv_run(&rig.loop, UV_RUN_NOWAIT);
    uv_idle_stop(&other);
    rig.comes_after(kMostUs);
  }
  CHECK(rig.busy->limit() == 0);
  uv_close(reinterpret_cast<uv_handle_t*>(&other), nullptr);
}

TEST_CASE("it may be switched off, and does not keep a loop running") {
  Rig off(0);
  for (int i = 0; i < 5; ++i) off.waits(1);
  CHECK(off.busy->limit() == 0);
  CHECK(off.looks == 0);

  Rig rig;
  rig.waits(1);
  rig.busy->expect();
  CHECK(rig.awake());
  rig.read_end.want(0);
  CHECK(uv_loop_alive(&rig.loop) == 0);
}

TEST_CASE("how many threads want to run is the fourth field of /proc/loadavg") {
  CHECK(running_of("0.20 0.18 0.12 3/80 11206\n") == 3);
  CHECK(running_of("123.00 9.1 0 128/90000 4194304") == 128);
  for (const char* other : {"", "1", "0.20 0.18 0.12", "0.20 0.18 0.12 x/80"}) {
    CAPTURE(other);
    CHECK(running_of(other) < 0);
  }
  // This machine says something that can be understood; what, is its affair.
  char text[128] = {};
  const UniqueFd file(::open("/proc/loadavg", O_RDONLY | O_CLOEXEC));
  REQUIRE(::read(file.get(), text, sizeof text - 1) > 0);
  CHECK(running_of(text) >= 1);
  (void)Processors().suffice();
}
