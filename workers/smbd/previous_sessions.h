// SPDX-License-Identifier: MIT
// A client that has lost its connection comes again and names the session that it had (MS-SMB2 2.2.5,
// PreviousSessionId). smbd then ends that session at once, while the lost connection may be there still, and
// gives its files to whoever opens them. It waits for what it has under way of that session itself; a WRITE
// that a thread of ours is at it does not know, and bytes that the client writes next could be written over
// by it. So such a SESSION_SETUP waits here until no WRITE of that session is in a thread of this worker; and
// from its arrival until its answer none begins, they are smbd's.
//
// It waits as long as that takes, as at smbd: a disk may hang for ever, and who comes again then finds out
// by /limits/session_timeout_ms. Nothing else waits for it: what comes behind it on its connection, such as
// requests of other sessions, goes on. Whoever names somebody else's session makes its WRITEs slower as long
// as smbd takes to refuse that.
//
// The WRITEs of other workers are not seen from here, and a client that comes again may come to any of them,
// or over TCP: for a while smbd's module waits for those, when it closes the file (DirectUse).
//
// Owned by the session's exchange with smbd; one thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "shm/loop/loop.h"
#include "workers/session/context.h"
#include "workers/smbd/direct_files.h"
#include "workers/smbd/queued_request.h"
#include "workers/smbd/said_lines.h"
#include "workers/smbd/smbd_link.h"

namespace smbdirect::workers {

class PreviousSessions {
 public:
  /// resources: null: no WRITE is done here.
  PreviousSessions(SessionContext& context, SmbdLink& link, const DirectResources* resources)
      : context_(context), link_(link), resources_(resources) {}
  ~PreviousSessions();
  PreviousSessions(const PreviousSessions&) = delete;
  PreviousSessions& operator=(const PreviousSessions&) = delete;

  /// Called from the loop when next() has something.
  void on_ended(std::function<void()> told) { told_ = std::move(told); }
  /// smbd's connection is about to be closed, or is: nothing goes there any more.
  void stop();

  // session, here and below: RequestInfo::previous_session; of 0 nothing is said.
  /// Whether a SESSION_SETUP that names it must wait.
  [[nodiscard]] bool holds_up(uint64_t session) const;
  /// One that names it is noted: from here until it is answered no WRITE of it begins.
  void begin(uint64_t session);
  void answered(uint64_t session);

  /// One that must, was noted and is complete.
  void wait(std::unique_ptr<QueuedRequest> request);
  /// One that has waited and need not any more, or nullptr.
  [[nodiscard]] std::unique_ptr<QueuedRequest> next();
  [[nodiscard]] bool none_waits() const { return waiting_.empty(); }

 private:
  // A disk's moment is noticed, and one that hangs does not keep the loop awake.
  static constexpr uint64_t kFirstLookMs = 1, kLastLookMs = 64;
  static constexpr uint64_t kSayAfterMs = 2'000;

  void look();

  SessionContext& context_;
  SmbdLink& link_;
  const DirectResources* resources_;
  std::function<void()> told_;
  std::vector<uint64_t> named_;  // begun, and not answered
  std::vector<std::unique_ptr<QueuedRequest>> waiting_;
  std::unique_ptr<shm::Timer> again_;  // few ever need it
  uint64_t look_ms_ = kFirstLookMs;
  uint64_t waits_since_ms_ = 0;
  SaidLines lines_{"direct I/O"};
};

}  // namespace smbdirect::workers
