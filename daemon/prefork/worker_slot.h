// SPDX-License-Identifier: MIT
// One slot of the pool: the worker process that is in it, its control socket, its liveness and its restarts.
// Owned by the supervisor for its whole life; worker processes come and go in it, each with a generation of
// its own. When the process dies the slot reports it and, unless the end was asked for, starts another after
// the backoff. When the supervisor dies, workers see EOF and continue without it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <sys/types.h>
#include <vector>

#include "daemon/config/pool_config.h"
#include "daemon/contract/contract.h"
#include "daemon/contract/rdma_ucm.h"
#include "daemon/prefork/adoption.h"
#include "daemon/prefork/backoff.h"
#include "daemon/prefork/worker_state.h"
#include "shm/loop/borrowed_watch.h"
#include "shm/loop/loop.h"

namespace smbdirect::daemon {

/// How a worker process ended.
struct Obituary {
  pid_t pid = -1;
  int wait_status = 0;  // waitpid(2)
  uint64_t lived_ms = 0;
  bool asked = false;      // by stop() or drain()
  std::string killed_for;  // when this supervisor killed it: why
  bool adopted = false;    // no child of ours: nobody knows how it ended, and it lived longer than that
  std::optional<uint64_t> restart_in_ms;

  /// "was killed by signal 9 (Killed) after 12.345 s".
  [[nodiscard]] std::string text() const;
};

class WorkerSlot {
 public:
  /// Told what happens in the slot. None of these may destroy the slot.
  class Observer {
   public:
    virtual void worker_ready(size_t slot) = 0;
    /// A worker that a former supervisor left is in the slot, and drains.
    virtual void worker_adopted(size_t /*slot*/) {}
    /// What is not about the process itself.
    virtual void worker_said(size_t slot, Received<FromWorker> said) = 0;
    /// It was silent, and answers again.
    virtual void worker_answers(size_t /*slot*/) {}
    virtual void worker_gone(size_t slot, const Obituary& obituary) = 0;

   protected:
    ~Observer() = default;
  };

  /// What all slots of a pool share; the pool owns it.
  struct Shared {
    shm::Loop& loop;
    const PoolConfig& config;
    std::string program;
    Observer& observer;
    Adoption& adoption;
    uint32_t generations = 0;    // every process gets the next
    bool held = false;           // all of them
    uint64_t configuration = 0;  // which one a process that starts now is given
    /// The processor that the next process is to run on; nothing: any.
    std::function<std::optional<unsigned>()> place{};
  };
  WorkerSlot(Shared& shared, size_t slot);

  /// Of a slot that has no process: starts one.
  void start();
  /// Of a slot that has no process: this worker is in it from now on, and drains. On an error it stays alone.
  [[nodiscard]] shm::Result<> adopt(LeftWorker left);
  [[nodiscard]] bool adopted() const { return process_.valid(); }
  /// Takes connections, or will: it has a process that is not ending, or gets one by itself.
  [[nodiscard]] bool active() const { return row_of(state_).active; }
  /// Its process, or the next one that starts by itself, has the configuration that the pool has now.
  [[nodiscard]] bool up_to_date() const {
    return state_ == WorkerState::backoff || configuration_ == shared_.configuration;
  }
  /// Orderly end: STOP, and SIGKILL when the deadline has passed. A process that even SIGKILL does not end,
  /// here or elsewhere, is left behind.
  void stop(uint32_t deadline_ms);
  /// DRAIN; a deadline of 0 is none.
  void drain(uint32_t deadline_ms);
  /// No more offers from now on, and DRAIN at finish_retiring(): a worker that is told while it has taken an
  /// offer would end before the connection comes. One that has failed is no longer kept as that.
  void retire(uint32_t deadline_ms);
  /// It has no offer, and can be told.
  void finish_retiring();
  [[nodiscard]] bool retires() const { return retires_.has_value(); }
  void dump();
  /// An error means that the worker cannot be reached now; it counts as unresponsive from here on.
  [[nodiscard]] shm::Result<> send(const FromSupervisor& message, int descriptor = -1);
  /// No offers until it answers a ping again.
  void mark_unresponsive();
  /// Looks whether the process has ended. Called for every SIGCHLD.
  void reap();

  [[nodiscard]] WorkerState state() const { return state_; }
  [[nodiscard]] bool has_process() const { return row_of(state_).process; }
  [[nodiscard]] bool takes_offers() const { return state_ == WorkerState::ready && responsive_ && !held(); }
  /// No offers, while what it has goes on; also for a process that is started in place of one that died.
  void hold(bool held) { held_ = held; }
  [[nodiscard]] bool held() const { return held_ || shared_.held; }
  /// Could be ready within the time of an offer.
  [[nodiscard]] bool soon_ready() const;
  [[nodiscard]] pid_t pid() const { return pid_; }
  /// That its process was started on; nothing: any.
  [[nodiscard]] std::optional<unsigned> processor() const { return processor_; }
  [[nodiscard]] uint32_t generation() const { return generation_; }
  /// Where requests are put for the process to take; null in a pool without verbs. Open until worker_gone()
  /// has returned.
  [[nodiscard]] RdmaCm* handover() { return handover_ ? &*handover_ : nullptr; }

 private:
  void become(WorkerState state);
  [[nodiscard]] shm::Result<> launch();
  void send_adoption_socket();
  void read_control();
  void handle(Received<FromWorker> received);
  void became_ready();
  void answered(uint64_t ping);
  void check_liveness();
  void kill(const std::string& reason);
  void on_overdue();
  void ended(int wait_status);

  Shared& shared_;
  shm::Loop& loop_;
  size_t slot_;
  const PoolConfig& config_;
  Observer& observer_;
  Backoff backoff_;

  WorkerState state_ = WorkerState::stopped;
  pid_t pid_ = -1;
  uint32_t generation_ = 0;
  std::optional<unsigned> processor_;
  uint64_t configuration_ = 0;
  std::optional<RdmaCm> handover_;  // a new one for each process, so that it has no ids of a former one
  shm::UniqueFd control_;
  std::optional<shm::ReadWatch> control_watch_;  // after control_: it must go first
  shm::UniqueFd process_;                        // pidfd of an adopted one
  std::optional<shm::ReadWatch> process_watch_;  // after process_
  uint64_t started_ms_ = 0;
  uint64_t ready_ms_ = 0;    // when it became ready; 0: not yet
  uint64_t restart_ms_ = 0;  // in backoff: when it starts
  std::string killed_for_;
  std::vector<pid_t> left_behind_;   // to be reaped once they end
  std::optional<uint32_t> retires_;  // DRAIN is due, with this deadline

  uint64_t ping_ = 0;  // the last one sent
  uint64_t pong_ = 0;  // the last one answered
  uint64_t ping_sent_ms_ = 0;
  bool responsive_ = false;
  bool held_ = false;

  shm::Timer ready_timer_;
  shm::Timer ping_timer_;
  shm::Timer kill_timer_;
  shm::Timer restart_timer_;
};

}  // namespace smbdirect::daemon
