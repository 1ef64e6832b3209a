// SPDX-License-Identifier: MIT
// Work in threads whose session ends: what has begun goes on, and keeps its session's connection to smbd open
// as long; what has not is dropped.
#include "workers/smbd/file_threads.h"

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <unistd.h>

#include <doctest/doctest.h>
#include <uv.h>

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
  explicit Write(Disk& disk) : disk_(disk) {}
  void run() override {
    std::unique_lock lock(disk_.mutex);
    ++disk_.begun;
    disk_.changed.notify_all();
    disk_.changed.wait(lock, [this] { return !disk_.hangs; });
    ++disk_.ended;
  }
  void done(std::unique_ptr<FileWork> /*self*/) override { ++disk_.heard; }
  void recharge(Budget& /*budget*/) override {}

 private:
  Disk& disk_;
};

constexpr int kPool = 4;  // libuv's threads, unless UV_THREADPOOL_SIZE says otherwise

struct Rig {
  Rig() { REQUIRE(uv_loop_init(&loop) == 0); }
  ~Rig() {
    disk.let_go();
    uv_run(&loop, UV_RUN_DEFAULT);
    threads.reset();
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
