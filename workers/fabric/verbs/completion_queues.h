// SPDX-License-Identifier: MIT
// A device's completion queues: one completion channel under the loop, and as many queues as the connections
// need. A queue has room for a bounded number of work requests; a connection reserves all it may ever have
// outstanding, and when no queue has that much room left, another is made (not every device can resize a
// queue). Owned by the device; the loop's thread only.
//
// A wake-up takes the channel's events, polls, arms the queue when nothing is left, and polls once more,
// because a completion in between raised no event. A wake-up handles a bounded number of completions and then
// lets the loop do other work. Users get their completions first (on_work); at the end of the round they call
// their handlers (on_round_end).
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <uv.h>

#include "shm/base/result.h"
#include "shm/loop/busy_poll.h"
#include "shm/loop/loop.h"
#include "shm/loop/watched.h"
#include "workers/fabric/verbs/handles.h"
#include "workers/fabric/verbs/seat_table.h"

namespace smbdirect::workers::fabric::verbs {

/// For statistics; monotonic.
struct PollStats {
  uint64_t wakes{};        // completion channel events
  uint64_t polls{};        // calls of ibv_poll_cq...
  uint64_t empty_polls{};  // ...that found nothing
  uint64_t completions{};
  uint64_t stale{};          // of connections that were gone
  uint64_t work_requests{};  // posted...
  uint64_t doorbells{};      // ...with this many calls
  uint64_t forced{};         // queue pairs destroyed before all their work had come back
};

class CompletionQueues {
 public:
  static constexpr unsigned kPerWake = 256;
  static constexpr unsigned kPerPoll = 32;
  static constexpr uint32_t kEntries = 8192;
  static constexpr unsigned kAckBatch = 64;

  class Owner {
   public:
    /// The device can no longer be relied upon. taken_away: the kernel has closed the channel under us, as it
    /// does when a device is removed. Not from inside a call.
    virtual void on_polling_failed(std::string why, bool taken_away) = 0;

   protected:
    ~Owner() = default;
  };

  [[nodiscard]] static shm::Result<std::unique_ptr<CompletionQueues>> create(VerbsApi& api, uv_loop_t& loop,
                                                                             ibv_context& context,
                                                                             uint32_t max_entries,
                                                                             const SeatTable& seats,
                                                                             PollStats& stats, Owner& owner);
  ~CompletionQueues();
  CompletionQueues(const CompletionQueues&) = delete;
  CompletionQueues& operator=(const CompletionQueues&) = delete;

  /// Room for `work` completions on one queue; `index` names it when giving the room back.
  struct Room {
    ibv_cq* cq{};
    size_t index{};
    uint32_t work{};
  };
  [[nodiscard]] shm::Result<Room> reserve(uint32_t work);
  /// Its queue pair is destroyed. Completions of it may still lie in the queue: the room is free again once
  /// the queue has been seen empty.
  void release(const Room& room);

  /// Queues are looked at again and again, and not armed, for so long after there was something in one, and
  /// while `loops`, if there is one, keeps the loop awake.
  void set_busy_poll(uint32_t microseconds, const shm::BusyPoll* loops) {
    busy_poll_ns_ = uint64_t{microseconds} * 1000;
    loops_ = loops;
  }
  [[nodiscard]] size_t size() const { return queues_.size(); }

 private:
  enum class State : uint8_t {
    resting,    // armed and empty
    last_look,  // armed; to be polled until empty
    unarmed,    // to be polled until empty, and armed then
  };
  struct Queue {
    CqHandle cq;
    uint32_t entries{};
    uint32_t reserved{};
    uint32_t releasing{};
    unsigned unacknowledged{};
    State state{};
  };

  CompletionQueues(VerbsApi& api, uv_loop_t& loop, ibv_context& context, uint32_t max_entries,
                   const SeatTable& seats, PollStats& stats, Owner& owner, ChannelHandle channel);
  shm::Result<> add(uint32_t work);
  void on_readable(int status);
  bool take_events();
  void round();
  void poll(Queue& queue, unsigned& budget);
  bool found_nothing(Queue& queue);
  void dispatch(const ibv_wc& completion);
  void fail(const char* call, int system_errno);

  VerbsApi& api_;
  ibv_context& context_;
  uint32_t max_entries_;
  const SeatTable& seats_;
  PollStats& stats_;
  Owner& owner_;
  shm::Watched<ChannelHandle> channel_;
  std::vector<Queue> queues_;
  size_t next_ = 0;  // which is polled first
  std::array<SeatTable::Place, kPerWake> touched_{};
  unsigned touched_count_ = 0;
  uint64_t busy_poll_ns_ = 0;
  const shm::BusyPoll* loops_ = nullptr;
  uint64_t last_found_ = 0;  // uv_hrtime
  std::optional<std::string> failure_;
  bool taken_away_ = false;
  bool failed_ = false;
  shm::Deferred again_;
};

}  // namespace smbdirect::workers::fabric::verbs
