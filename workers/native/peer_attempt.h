// SPDX-License-Identifier: MIT
// One connection's way to its process: the claim's answer, then either a process that comes to the listener,
// or a channel that is passed to one. A channel to which no process attaches is closed. Owned by the session
// (as its Upstream), known to the finder by number and cookie until it is over; one thread.
#pragma once

#include <memory>
#include <optional>

#include "shm/loop/loop.h"
#include "workers/native/introduction.h"
#include "workers/native/peer_finder.h"

namespace smbdirect::workers {

class PeerFinder::Attempt final : public Upstream {
 public:
  Attempt(PeerFinder& finder, PeerRequest request);
  ~Attempt() override { leave(); }

  void start(Done done) override;
  [[nodiscard]] uint32_t process() const override { return process_; }

  // --- from the finder ---
  void claimed(daemon::ClaimOutcome outcome);
  void opened(shm::UniqueFd socket);
  void refused(int error);

 private:
  /// Where the channel's other end is.
  enum class Way : uint8_t {
    none,
    here,        // with a process that has another channel with this worker
    supervisor,  // to be passed on by another worker
    door,        // with a process that was started for it
  };

  void act();
  void ask_for_process();
  void introduce(Way way, shm::UniqueFd socket);
  /// The other end of a channel on which everything is said already that its process must know.
  [[nodiscard]] std::optional<shm::UniqueFd> introduce_to_pair(Way way);
  void forget_channel();
  void on_introduced(shm::Result<Introduction::Attached> attached);
  /// The process that this worker knew did not take it.
  void not_passed_here();
  /// From the loop, for nothing may end inside start().
  void fail_soon(shm::Error error);
  void finish(shm::Result<shm::UniqueFd> result);
  void leave();

  PeerFinder& finder_;
  PeerRequest request_;
  Done done_;
  shm::Error failure_;
  shm::Timer deadline_;
  shm::Timer pass_deadline_;
  daemon::ClaimOutcome answer_ = daemon::ClaimOutcome::wait;
  Way way_ = Way::none;
  uint32_t expected_ = 0;             // the process that a channel is passed to; 0: not known
  protocol::proxy::Cookie cookie_{};  // zero: none is known to the listener
  std::unique_ptr<Introduction> introduction_;
  uint32_t process_ = 0;
};

}  // namespace smbdirect::workers
