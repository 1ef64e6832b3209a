// SPDX-License-Identifier: MIT
// A loop whose thread makes system calls that may block: what does not costs no change of threads; while one
// does, the loop goes on in the other thread. A task here blocks until the loop itself lets it go, which it
// can only do if somebody runs it.
#include "shm/loop/relief.h"

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <random>
#include <semaphore>
#include <thread>
#include <unistd.h>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "shm/loop/loop.h"

using smbdirect::shm::Deferred;
using smbdirect::shm::LoopRelief;
using smbdirect::shm::Timer;
using End = LoopRelief::End;

namespace {

struct Task final : LoopRelief::Task {
  std::function<void()> what, then;
  std::thread::id ran_in, told_in;
  std::vector<End> ends;

  explicit Task(std::function<void()> does = {}) : what(std::move(does)) {}
  void run() override {
    ran_in = std::this_thread::get_id();
    if (what) what();
  }
  void over(End end) override {
    told_in = std::this_thread::get_id();
    ends.push_back(end);
    if (then) then();
  }
};

/// Where nothing may be taken for a call that blocks, on a machine that is busy with other things.
constexpr std::chrono::milliseconds kNever = std::chrono::hours(1);

struct Rig {
  uv_loop_t loop{};
  std::unique_ptr<LoopRelief> relief;
  std::unique_ptr<Deferred> first;  // of the loop
  std::atomic<bool> begun = false;
  std::binary_semaphore may_end{0};

  explicit Rig(std::chrono::milliseconds tick = LoopRelief::kTick, bool started = true) {
    ::alarm(60);
    REQUIRE(uv_loop_init(&loop) == 0);
    relief = std::make_unique<LoopRelief>(loop, tick);
    if (started) REQUIRE(relief->start());
  }
  ~Rig() {
    first.reset();
    relief.reset();
    uv_run(&loop, UV_RUN_DEFAULT);
    CHECK(uv_loop_close(&loop) == 0);
    ::alarm(0);
  }
  /// A task that blocks until let_go().
  void block() {
    begun = true;
    may_end.acquire();
  }
  /// In the timer: whether it blocks now. Else the timer comes again.
  bool blocks(Timer& timer) {
    const bool now = begun.exchange(false);
    if (!now) timer.start(1);
    return now;
  }
  void let_go() { may_end.release(); }
  /// Runs the loop, beginning with that, until it is stopped.
  void run(std::function<void()> what) {
    first = std::make_unique<Deferred>(loop, std::move(what));
    first->trigger();
    relief->run();
  }
};

}  // namespace

TEST_CASE("what does not block is done by the thread that runs the loop, after what it is doing") {
  Rig rig(kNever);
  bool turning = false;
  Task task([&] { CHECK(!turning); });
  task.then = [&] { rig.relief->stop(); };
  rig.run([&] {
    turning = true;
    REQUIRE(rig.relief->room());
    rig.relief->aside(task);
    CHECK(task.ends.empty());
    turning = false;
  });
  CHECK(task.ends == std::vector{End::ran});
  CHECK(task.ran_in == std::this_thread::get_id());
  CHECK(task.told_in == std::this_thread::get_id());
}

TEST_CASE("while a call blocks the loop goes on in the other thread, and there is no room for more") {
  Rig rig;
  Task slow([&] { rig.block(); }), other, next;
  std::thread::id timer_in;
  Timer timer(rig.loop, [&] {
    if (!rig.blocks(timer)) return;
    timer_in = std::this_thread::get_id();
    CHECK(!rig.relief->room());
    CHECK(other.ends == std::vector{End::not_begun});
    CHECK(slow.ends.empty());
    rig.let_go();
  });
  slow.then = [&] {
    REQUIRE(rig.relief->room());
    rig.relief->aside(next);
  };
  next.then = [&] { rig.relief->stop(); };
  rig.run([&] {
    rig.relief->aside(slow);
    rig.relief->aside(other);
    timer.start(1);
  });
  CHECK(slow.ends == std::vector{End::held_up});
  CHECK(slow.ran_in == std::this_thread::get_id());
  CHECK(timer_in != std::this_thread::get_id());
  CHECK(slow.told_in == timer_in);
  CHECK(next.ran_in == timer_in);  // who has the loop keeps it
  CHECK(other.ran_in == std::thread::id());
}

TEST_CASE("the threads take turns: the second may be held up as well") {
  Rig rig;
  Timer timer(rig.loop, [&] {
    if (rig.blocks(timer)) rig.let_go();
  });
  std::vector<std::unique_ptr<Task>> tasks;
  std::function<void()> another = [&] {
    if (tasks.size() == 6) return rig.relief->stop();
    tasks.push_back(std::make_unique<Task>([&] { rig.block(); }));
    tasks.back()->then = [&] { another(); };
    REQUIRE(rig.relief->room());
    rig.relief->aside(*tasks.back());
    timer.start(1);
  };
  rig.run([&] { another(); });
  REQUIRE(tasks.size() == 6);
  for (size_t i = 0; i < tasks.size(); ++i) {
    CHECK(tasks[i]->ends == std::vector{End::held_up});
    if (i > 0) CHECK(tasks[i]->ran_in != tasks[i - 1]->ran_in);
  }
}

TEST_CASE("of many tasks the loop does not have to wait for all") {
  Rig rig(kNever);
  constexpr uint64_t kEachNs = 300'000;
  std::vector<std::unique_ptr<Task>> tasks;
  size_t told = 0, turns = 0;
  Deferred each_turn(rig.loop, [&] {
    ++turns;
    each_turn.trigger();
  });
  rig.run([&] {
    each_turn.trigger();
    for (size_t i = 0; i < 10; ++i) {
      tasks.push_back(std::make_unique<Task>([] {
        const uint64_t until = uv_hrtime() + kEachNs;
        while (uv_hrtime() < until) {
        }
      }));
      tasks.back()->then = [&] {
        if (++told == 10) rig.relief->stop();
      };
      rig.relief->aside(*tasks.back());
    }
  });
  CHECK(told == 10);
  CHECK(turns >= 4);  // two tasks are more than half a millisecond
}

TEST_CASE("what is cancelled before it has begun is not done, and nobody hears of it") {
  Rig rig(kNever);
  Task cancelled, done;
  done.then = [&] {
    CHECK(!rig.relief->cancel(done));
    rig.relief->stop();
  };
  rig.run([&] {
    rig.relief->aside(cancelled);
    rig.relief->aside(done);
    CHECK(rig.relief->cancel(cancelled));
    CHECK(!rig.relief->cancel(cancelled));
  });
  CHECK(cancelled.ends.empty());
  CHECK(cancelled.ran_in == std::thread::id());
  CHECK(done.ends == std::vector{End::ran});
}

TEST_CASE("what has begun cannot be cancelled") {
  Rig rig;
  Task slow([&] { rig.block(); });
  Timer timer(rig.loop, [&] {
    if (!rig.blocks(timer)) return;
    CHECK(!rig.relief->cancel(slow));
    rig.let_go();
  });
  slow.then = [&] { rig.relief->stop(); };
  rig.run([&] {
    rig.relief->aside(slow);
    timer.start(1);
  });
  CHECK(slow.ends == std::vector{End::held_up});
}

TEST_CASE("a loop that is stopped while a call blocks waits for it, and tells nobody") {
  Rig rig;
  Task slow([&] { rig.block(); });
  Timer timer(rig.loop, [&] {
    if (!rig.blocks(timer)) return;
    rig.relief->stop();
    rig.let_go();
  });
  rig.run([&] {
    rig.relief->aside(slow);
    timer.start(1);
  });
  CHECK(slow.ends.empty());
  CHECK(slow.ran_in == std::this_thread::get_id());
}

TEST_CASE("a call that is under way keeps the loop running, and it ends by itself after that") {
  Rig rig;
  Task slow([&] { rig.block(); });
  {
    Timer timer(rig.loop, [&] {
      if (rig.blocks(timer)) rig.let_go();
    });
    rig.run([&] {
      rig.relief->aside(slow);
      timer.start(1);
    });
  }
  CHECK(slow.ends == std::vector{End::held_up});
}

TEST_CASE("without its second thread there is never room, and the loop runs") {
  Rig rig(kNever, false);
  bool ran = false;
  rig.run([&] {
    CHECK(!rig.relief->room());
    ran = true;
  });
  CHECK(ran);
}

TEST_CASE("one that is never run ends") { const Rig rig; }

TEST_CASE("after a rest a call that blocks is seen as well") {
  Rig rig;
  Task quick, slow([&] { rig.block(); });
  Timer timer(rig.loop, [&] {
    if (rig.blocks(timer)) rig.let_go();
  });
  Timer later(rig.loop, [&] {
    rig.relief->aside(slow);
    timer.start(1);
  });
  slow.then = [&] { rig.relief->stop(); };
  rig.run([&] {
    rig.relief->aside(quick);
    later.start(120);  // longer than it watches a loop without tasks
  });
  CHECK(quick.ends.size() == 1);
  CHECK(slow.ends == std::vector{End::held_up});
}

TEST_CASE("any mixture: each is told of once, by whoever holds the loop, and what the loop knows is whole") {
  Rig rig;
  std::mt19937 random(20261130);
  constexpr size_t kTasks = 4000;
  std::vector<std::unique_ptr<Task>> tasks;
  size_t told = 0, elsewhere = 0, held_up = 0;  // the loop's
  std::function<void()> more = [&] {
    for (size_t n = random() % 6; n > 0 && tasks.size() < kTasks && rig.relief->room(); --n) {
      const bool slow = random() % 200 == 0;
      tasks.push_back(std::make_unique<Task>([slow] {
        if (slow) std::this_thread::sleep_for(std::chrono::milliseconds(4));
      }));
      Task& task = *tasks.back();
      task.then = [&] {
        ++told;
        elsewhere += task.ends.back() == End::not_begun ? 1 : 0;
        held_up += task.ends.back() == End::held_up ? 1 : 0;
      };
      rig.relief->aside(task);
    }
  };
  Deferred again(rig.loop, [&] {
    more();
    if (told == kTasks) return rig.relief->stop();
    again.trigger();
  });
  rig.run([&] { again.trigger(); });
  CHECK(told == kTasks);
  CHECK(held_up > 0);
  size_t ran = 0;
  for (const auto& task : tasks) {
    CHECK(task->ends.size() == 1);
    ran += task->ran_in != std::thread::id() ? 1 : 0;
  }
  CHECK(ran == kTasks - elsewhere);
}
