// SPDX-License-Identifier: MIT
// One channel served: a client's connection on one side, a TCP connection to stock smbd on the other. Owned
// by the process that serves the channel, one thread, driven by its poll loop. When either side ends, or the
// process, both do.
#pragma once

#include <chrono>
#include <functional>
#include <optional>

#include "handles.h"
#include "requests.h"
#include "responses.h"
#include "transfers.h"

namespace smbdirect::tests::peer {

class Relay {
 public:
  /// `another` is given the further channels of this client.
  Relay(ChannelPtr channel, Fd smbd, std::function<void(ChannelPtr)> another);

  /// Relays the client's first message, which came with the facts.
  [[nodiscard]] Outcome<> begin();

  struct Wants {
    short channel{};
    short smbd{};  // 0: nothing, not even to be told that it has closed
    bool at_once = false;
    bool soon = false;  // there is a deadline to be looked at
  };
  [[nodiscard]] Wants wants() const;
  /// A bounded amount of work. The error is why this channel has ended.
  [[nodiscard]] Outcome<> turn(short channel, short smbd);

  [[nodiscard]] int channel_fd() const { return smbdirect_channel_fd(channel_.get()); }
  [[nodiscard]] int smbd_fd() const { return smbd_.get(); }
  [[nodiscard]] const Totals& totals() const { return totals_; }

 private:
  using Clock = std::chrono::steady_clock;

  [[nodiscard]] bool paused() const;
  [[nodiscard]] Outcome<> read_events(bool ended);
  [[nodiscard]] Outcome<> read_smbd();
  [[nodiscard]] Outcome<> finish() const;

  ChannelPtr channel_;
  Fd smbd_;
  std::function<void(ChannelPtr)> another_;
  Totals totals_;
  smb2::ServerTranslator translator_;
  Transfers transfers_;
  RequestRelay requests_;
  ResponseRelay responses_;
  bool more_events_ = false;  // the library may hold some that no poll tells of
  ResponseRelay::State smbd_state_ = ResponseRelay::State::drained;
  uint64_t waiting_for_client_ = 0;
  std::optional<Clock::time_point> finish_by_;  // smbd has closed: deliver what it said
};

}  // namespace smbdirect::tests::peer
