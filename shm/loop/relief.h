// SPDX-License-Identifier: MIT
// A loop whose thread may make system calls that block. Most of them do not, a write to the page cache for
// one, but nobody can say so beforehand; and to hand each to another thread costs two wake-ups. So the loop's
// own thread makes them, between two turns of the loop, with the loop let go of: if one does block, a second
// thread takes the loop over and runs it, and the first is the second from then on. It costs everybody else
// the moment until that is seen, one to two milliseconds. (Go's scheduler does so with system calls.)
//
// Owned by whoever owns the loop. Two threads: the one that calls run(), and one that start() starts. What
// belongs to the loop is touched by the one that holds it, of which there is one at a time, and what was
// done before is seen. While one of them is held up nothing more can be done so: room() says no.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

#include <uv.h>

#include "shm/base/result.h"
#include "shm/loop/handle.h"

namespace smbdirect::shm {

class LoopRelief {
 public:
  enum class End : uint8_t {
    ran,
    held_up,    // it ran, and the loop was taken over meanwhile
    not_begun,  // one before it holds its thread up: it is to be done elsewhere
  };
  /// Of its owner, who keeps it until it is over.
  class Task {
   public:
    /// In a thread that does not hold the loop. Touches nothing that the loop's thread may change meanwhile,
    /// and throws nothing.
    virtual void run() = 0;
    /// In the loop. The last that is heard of it.
    virtual void over(End end) = 0;

   protected:
    ~Task() = default;
  };

  /// A call that is under way for one to two ticks blocks.
  static constexpr std::chrono::milliseconds kTick{1};

  /// Throws as Loop does.
  explicit LoopRelief(uv_loop_t& loop, std::chrono::milliseconds tick = kTick);
  LoopRelief(const LoopRelief&) = delete;
  LoopRelief& operator=(const LoopRelief&) = delete;
  ~LoopRelief();

  /// The second thread, which has the credentials and the filter of the caller. Without it there is never
  /// room.
  [[nodiscard]] Result<> start();
  /// Runs the loop until stop() or until nothing keeps it running. Returns when neither thread is at
  /// anything any more; what they were at then is not told.
  void run();

  // --- with the loop held ---
  void stop();
  /// Whether a task would be done at the end of this turn.
  [[nodiscard]] bool room();
  /// To be done at the end of this turn, or of one of the next if there are many. Call it if there is room.
  void aside(Task& task);
  /// True: it has not begun, and nobody will hear of it any more.
  [[nodiscard]] bool cancel(Task& task);

 private:
  using Lock = std::unique_lock<std::mutex>;

  void serve(bool holds);
  [[nodiscard]] bool take_over(Lock& lock);
  [[nodiscard]] bool do_aside(Lock& lock);
  void tell(Lock& lock, std::vector<Task*>& whom, End end);
  [[nodiscard]] bool turn(Lock& lock);

  uv_loop_t& loop_;
  const std::chrono::milliseconds tick_;
  UvOwner<UvBox<uv_async_t>> wake_;
  std::thread second_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool stopped_ = false, turning_ = false;  // with the loop held
  // Under mutex_.
  bool held_ = false;     // the loop, by one of the two
  bool over_ = false;     // the loop runs no more
  bool resting_ = false;  // the other one has seen no task for long, and waits to be woken
  uint64_t begun_ = 0;    // tasks
  Task* running_ = nullptr;
  std::vector<Task*> pending_;
  std::vector<Task*> elsewhere_;  // did not begin before the loop was taken over
  std::vector<Task*> late_;       // have held up their thread, and ran
};

}  // namespace smbdirect::shm
