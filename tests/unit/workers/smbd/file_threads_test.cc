// SPDX-License-Identifier: MIT
// Work on files whose session ends: what has begun goes on, and keeps its session's connection to smbd open
// as long; what has not is dropped. And where it is done: between two turns of the loop or in a thread.
#include "workers/smbd/file_threads.h"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <sys/types.h>
#include <unistd.h>
#include <utility>

#include <doctest/doctest.h>
#include <uv.h>

#include "shm/loop/loop.h"
#include "shm/loop/relief.h"

using namespace smbdirect::workers;  // NOLINT: a test speaks of one thing
namespace shm = smbdirect::shm;

namespace {

/// A disk that hangs until it is let go of.
struct Disk {
  std::mutex mutex;
  std::condition_variable changed;
  bool hangs = true;
  int begun = 0;
  std::atomic<int> ended = 0, heard = 0;
  int given_back = 0;

  void let_go() {
    const std::lock_guard lock(mutex);
    hangs = false;
    changed.notify_all();
  }
  void until_begun(int count) {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return begun == count; });
  }
};

class Write final : public FileWork {
 public:
  explicit Write(Disk& disk, std::function<void()> then = {}) : disk_(disk), then_(std::move(then)) {}
  void run() override {
    std::unique_lock lock(disk_.mutex);
    ++disk_.begun;
    disk_.changed.notify_all();
    disk_.changed.wait(lock, [this] { return !disk_.hangs; });
    ++disk_.ended;
  }
  void not_run() override { ++disk_.given_back; }
  void done(std::unique_ptr<FileWork> /*self*/) override {
    ++disk_.heard;
    if (then_) then_();
  }
  void recharge(Budget& /*budget*/) override {}

 private:
  Disk& disk_;
  std::function<void()> then_;
};

constexpr int kPool = 4;  // libuv's threads, unless UV_THREADPOOL_SIZE says otherwise

struct Rig {
  Rig() { REQUIRE(uv_loop_init(&loop) == 0); }
  ~Rig() {
    disk.let_go();
    uv_run(&loop, UV_RUN_DEFAULT);
    threads.reset();
    uv_run(&loop, UV_RUN_DEFAULT);  // its timer closes
    CHECK(uv_loop_close(&loop) == 0);
  }
  FileWork& begin() {
    std::unique_ptr<FileWork> work = std::make_unique<Write>(disk);
    FileWork& itself = *work;
    REQUIRE(threads->begin(work));
    return itself;
  }
  /// Its session ends, and nobody else has the stream to smbd any more.
  std::weak_ptr<const shm::UniqueFd> abandon(FileWork& work) {
    int ends[2];
    REQUIRE(::pipe(ends) == 0);
    smbd = shm::UniqueFd(ends[0]);
    const auto stream = std::make_shared<const shm::UniqueFd>(ends[1]);
    threads->abandon(work, stream);
    return stream;
  }

  uv_loop_t loop{};
  Disk disk;
  std::optional<FileThreads> threads{std::in_place, loop, 64};
  shm::UniqueFd smbd;
};

constexpr dev_t kDevice = 7;
/// Longer than any machine keeps a thread waiting that has something to do: only what hangs is held up.
constexpr std::chrono::milliseconds kLong{300};

/// A loop that may be held up.
struct HeldUp {
  uv_loop_t loop{};
  Disk disk;
  std::optional<shm::LoopRelief> relief;
  std::optional<FileThreads> threads;
  std::optional<shm::Deferred> first;

  explicit HeldUp(std::chrono::milliseconds tick = kLong) {
    REQUIRE(uv_loop_init(&loop) == 0);
    relief.emplace(loop, tick);
    threads.emplace(loop, 64, &*relief);
    REQUIRE(relief->start());
  }
  ~HeldUp() {
    first.reset();
    threads.reset();
    relief.reset();
    uv_run(&loop, UV_RUN_DEFAULT);
    CHECK(uv_loop_close(&loop) == 0);
  }
  FileWork& begin(std::function<void()> then = {}) {
    std::unique_ptr<FileWork> work = std::make_unique<Write>(disk, std::move(then));
    FileWork& itself = *work;
    REQUIRE(threads->begin(work, kDevice));
    return itself;
  }
  /// In the timer: whether work has begun. Else the timer comes again.
  bool has_begun(shm::Timer& timer) {
    const std::lock_guard lock(disk.mutex);
    if (disk.begun == 0) timer.start(1);
    return disk.begun > 0;
  }
  void run(std::function<void()> what) {
    first.emplace(loop, std::move(what));
    first->trigger();
    relief->run();
  }
};

}  // namespace

TEST_CASE("the connection to smbd is kept while a thread is at a file of its session's") {
  Rig rig;
  FileWork& work = rig.begin();
  rig.disk.until_begun(1);
  const auto kept = rig.abandon(work);
  uv_run(&rig.loop, UV_RUN_NOWAIT);
  CHECK(!kept.expired());
  rig.disk.let_go();
  uv_run(&rig.loop, UV_RUN_DEFAULT);
  CHECK(kept.expired());
  CHECK(rig.disk.ended == 1);
  CHECK(rig.disk.heard == 0);
  CHECK(rig.threads->under_way() == 0);
}

TEST_CASE("what is under way can be asked about, abandoned or not, until it has ended") {
  Rig rig;
  FileWork& work = rig.begin();
  const FileWork* const itself = &work;
  const auto there = [&] {
    return rig.threads->any_of([&](const FileWork& other) { return &other == itself; });
  };
  rig.disk.until_begun(1);
  CHECK(there());
  CHECK_FALSE(rig.threads->any_of([](const FileWork&) { return false; }));
  (void)rig.abandon(work);
  uv_run(&rig.loop, UV_RUN_NOWAIT);
  CHECK(there());
  rig.disk.let_go();
  uv_run(&rig.loop, UV_RUN_DEFAULT);
  CHECK_FALSE(there());
}

TEST_CASE("what has not begun keeps nothing, and is not done") {
  Rig rig;
  for (int i = 0; i < kPool; ++i) (void)rig.begin();
  rig.disk.until_begun(kPool);
  FileWork& waits = rig.begin();
  const auto kept = rig.abandon(waits);
  CHECK(kept.expired());
  rig.disk.let_go();
  uv_run(&rig.loop, UV_RUN_DEFAULT);
  CHECK(rig.disk.ended == kPool);
  CHECK(rig.disk.heard == kPool);
}

TEST_CASE("what has waited for a thread for too long is given back, and nothing waits until one has ended") {
  Rig rig;
  for (int i = 0; i < kPool; ++i) rig.begin();
  rig.disk.until_begun(kPool);
  rig.begin();
  rig.begin();
  while (rig.disk.heard < 2) uv_run(&rig.loop, UV_RUN_ONCE);
  CHECK(rig.disk.given_back == 2);
  CHECK(rig.threads->under_way() == kPool);
  std::unique_ptr<FileWork> work = std::make_unique<Write>(rig.disk);
  CHECK_FALSE(rig.threads->begin(work));
  CHECK(work != nullptr);
  rig.disk.let_go();
  while (rig.disk.heard == 2) uv_run(&rig.loop, UV_RUN_ONCE);
  CHECK(rig.threads->begin(work));
  uv_run(&rig.loop, UV_RUN_DEFAULT);
  CHECK(rig.disk.ended == kPool + 1);
  CHECK(rig.disk.given_back == 2);
}

TEST_CASE("the end of all waits for what threads are at") {
  Rig rig;
  FileWork& work = rig.begin();
  rig.disk.until_begun(1);
  const auto kept = rig.abandon(work);
  uv_thread_t later{};
  REQUIRE(uv_thread_create(
              &later,
              [](void* disk) {
                ::usleep(20'000);
                static_cast<Disk*>(disk)->let_go();
              },
              &rig.disk) == 0);
  rig.threads.reset();
  CHECK(rig.disk.ended == 1);
  CHECK(kept.expired());
  uv_thread_join(&later);
}

TEST_CASE("what is likely not to block is done between two turns of the loop") {
  HeldUp rig;
  rig.disk.let_go();
  rig.run([&] { (void)rig.begin([&] { rig.relief->stop(); }); });
  CHECK(rig.disk.heard == 1);
  CHECK(rig.threads->done_between_turns() == 1);
  CHECK(rig.threads->under_way() == 0);
}

TEST_CASE("a disk that has held the loop up is for threads, and so is what waited behind it") {
  HeldUp rig;
  shm::Timer timer(rig.loop, [&] {  // in the other thread
    if (!rig.has_begun(timer)) return;
    CHECK(rig.threads->done_between_turns() == 0);
    rig.disk.let_go();
  });
  int left = 2;
  const auto next = [&] {
    if (--left > 0) return;
    CHECK(rig.threads->done_between_turns() == 1);
    (void)rig.begin([&] { rig.relief->stop(); });
  };
  rig.run([&] {
    (void)rig.begin(next);
    (void)rig.begin(next);
    timer.start(1);
  });
  CHECK(rig.disk.heard == 3);
  CHECK(rig.threads->done_between_turns() == 1);
  CHECK(rig.threads->held_up() == 1);
}

TEST_CASE(
    "the connection to smbd is kept while the loop's own thread is held up by a file of its session's") {
  HeldUp rig;
  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  const shm::UniqueFd smbd(ends[0]);
  auto stream = std::make_shared<const shm::UniqueFd>(ends[1]);
  const std::weak_ptr<const shm::UniqueFd> kept = stream;
  FileWork* work = nullptr;
  shm::Timer look(rig.loop, [&] {
    if (rig.threads->under_way() > 0) return;
    CHECK(kept.expired());
    rig.relief->stop();
  });
  shm::Timer timer(rig.loop, [&] {
    if (!rig.has_begun(timer)) return;
    rig.threads->abandon(*work, std::exchange(stream, nullptr));
    CHECK(!kept.expired());
    rig.disk.let_go();
    look.start(1, 1);
  });
  rig.run([&] {
    work = &rig.begin();
    timer.start(1);
  });
  CHECK(rig.disk.ended == 1);
  CHECK(rig.disk.heard == 0);
}

TEST_CASE("what has not begun before its session ends is not done between turns either") {
  HeldUp rig;
  rig.disk.let_go();
  rig.run([&] {
    FileWork& work = rig.begin();
    rig.threads->abandon(work, nullptr);
    CHECK(rig.threads->under_way() == 0);
    (void)rig.begin([&] { rig.relief->stop(); });
  });
  CHECK(rig.disk.begun == 1);
  CHECK(rig.disk.heard == 1);
}

TEST_CASE("work that the loop was stopped with is let go of") {
  HeldUp rig(std::chrono::milliseconds(1));
  shm::Timer timer(rig.loop, [&] {
    if (!rig.has_begun(timer)) return;
    rig.relief->stop();
    rig.disk.let_go();
  });
  rig.run([&] {
    (void)rig.begin();
    timer.start(1);
  });
  CHECK(rig.disk.ended == 1);
  CHECK(rig.disk.heard == 0);
  CHECK(rig.threads->under_way() == 1);
}
