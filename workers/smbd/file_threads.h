// SPDX-License-Identifier: MIT
// Work on files that would or might block a worker's loop: what waits and what is under way, for all sessions
// of the worker. What would is done in libuv's threads (thread_pool.h); what only might, by the thread that
// runs the loop, between two of its turns (shm/loop/relief.h), as long as its disk is not known to take its
// time (disk_pace.h). Owned by the worker, outlives its sessions and dies before its memory; all but
// FileWork::run() is with the loop held. What a thread is at cannot be stopped: a session
// that ends leaves its work behind, with all that it needs, and hears no more of it. smbd closes the
// session's files when their connection has ended, and lets others have them: so that stays open as long as a
// thread is at one of them. In a worker that is killed the kernel sees to that.
//
// Threads are few, and storage that hangs may have all of them: what has waited for one for a while is its
// owner's again, who has smbd do it, and nothing more waits until one has ended. smbd has one process, with
// threads of its own, for each client.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <sys/types.h>
#include <vector>

#include <uv.h>

#include "shm/base/unique_fd.h"
#include "shm/loop/loop.h"
#include "shm/loop/relief.h"
#include "workers/memory/slab.h"
#include "workers/smbd/disk_pace.h"

namespace smbdirect::workers {

/// Has by value all that it needs.
class FileWork {
 public:
  FileWork() = default;
  FileWork(const FileWork&) = delete;
  FileWork& operator=(const FileWork&) = delete;
  virtual ~FileWork() = default;

  /// In a thread. Touches nothing that the loop's thread may change meanwhile, and throws nothing.
  virtual void run() = 0;
  /// On the loop, in place of run(): no thread has come to it in time. done() follows.
  virtual void not_run() = 0;
  /// Back on the loop. Not called for what was abandoned.
  virtual void done(std::unique_ptr<FileWork> self) = 0;
  /// Whoever has ordered it ends: the memory that it holds counts here now.
  virtual void recharge(Budget& budget) = 0;
};

class FileThreads {
 public:
  /// most: jobs at a time, of all sessions, those that were abandoned included. relief: runs the loop, and
  /// its run() has returned when this is destroyed; null: all is done in libuv's threads.
  /// patience_ms: for which work waits for a thread.
  FileThreads(uv_loop_t& loop, size_t most, shm::LoopRelief* relief = nullptr, uint64_t patience_ms = 200)
      : loop_(loop), most_(most), relief_(relief), patience_ms_(patience_ms) {}
  FileThreads(const FileThreads&) = delete;
  FileThreads& operator=(const FileThreads&) = delete;
  /// Waits for what threads are at.
  ~FileThreads();

  [[nodiscard]] bool room() const { return jobs_.size() < most_; }
  /// False, and the work is the caller's still: there is no room, or all threads are taken up. quick: it is
  /// likely not to block, unless this device, which it is on, takes its time.
  [[nodiscard]] bool begin(std::unique_ptr<FileWork>& work, std::optional<dev_t> quick = std::nullopt);
  /// It does not begin any more, and nobody is told of its end. If it has begun, `keeps` is not closed before
  /// it has ended.
  void abandon(FileWork& work, const std::shared_ptr<const shm::UniqueFd>& keeps);

  [[nodiscard]] size_t under_way() const { return jobs_.size(); }
  /// Of all that were begun: done by the loop's own thread.
  [[nodiscard]] uint64_t done_between_turns() const { return between_turns_; }
  /// Of these, those that held up the loop.
  [[nodiscard]] uint64_t held_up() const { return held_up_; }

 private:
  /// libuv keeps a pointer to it until the loop has called back, which may be after the end of the owner.
  struct Job final : shm::LoopRelief::Task {
    uv_work_t request{};
    FileThreads* owner{};
    std::unique_ptr<FileWork> work;
    std::shared_ptr<const shm::UniqueFd> keeps;
    std::optional<dev_t> quick;   // it is relief_'s
    uint64_t waits_since_ms = 0;  // for a thread
    std::atomic<bool> begun = false;
    bool cancelled = false;  // its callback may come still
    bool abandoned = false;
    bool ran = false;  // under mutex_

    void run() override { work->run(); }
    void over(shm::LoopRelief::End end) override { owner->over(*this, end); }
  };

  void over(Job& job, shm::LoopRelief::End end);
  void begin_in_thread(Job& job);
  void on_patience();
  [[nodiscard]] bool cancel(Job& job);
  void finish(Job& job);
  static void run(uv_work_t* request);
  static void after(uv_work_t* request, int status);

  uv_loop_t& loop_;
  size_t most_;
  shm::LoopRelief* relief_;
  uint64_t patience_ms_;
  DiskPace pace_;
  uint64_t between_turns_ = 0, held_up_ = 0;
  std::optional<shm::Timer> patience_;  // runs while somebody may wait
  bool watches_ = false;                // it runs
  bool taken_up_ = false;               // nothing has ended since somebody waited for too long
  Budget abandoned_{UINT64_MAX};
  std::vector<Job*> jobs_;  // each owned by libuv's callback, or here if it is relief_'s
  std::vector<std::unique_ptr<Job>> spare_;
  std::mutex mutex_;
  std::condition_variable ran_;

 public:
  /// Whether there is such among all that is under way, what was abandoned included. On the loop.
  [[nodiscard]] bool any_of(const std::function<bool(const FileWork&)>& such) const;
};

}  // namespace smbdirect::workers
