// SPDX-License-Identifier: MIT
// A connection's timers (MS-SMBD 3.1.2): negotiation, idle and keepalive, send credit grant. The caller
// passes the time; nothing here reads a clock. Part of an Engine; same owner, same thread.
#pragma once

#include <expected>

#include "protocol/smbdirect/fault.h"
#include "protocol/smbdirect/limits.h"

namespace smbdirect::protocol::smb_direct {

/// Negotiation Timer.
class NegotiationTimer {
 public:
  NegotiationTimer(const Limits& limits, Millis now) : timeout_(limits.negotiate_timeout) { start(now); }
  void start(Millis now) { deadline_ = after(now, timeout_); }
  void cancel() { deadline_ = kNever; }
  [[nodiscard]] Millis deadline() const { return deadline_; }
  [[nodiscard]] std::expected<void, Fault> tick(Millis now) const;

 private:
  Millis timeout_;
  Millis deadline_ = kNever;
};

/// Idle Connection Timer: nothing heard for idle_timeout makes a probe due; once it is sent, an answer has
/// keepalive_timeout. The clock stands still while the peer could not be expected to send.
class IdleTimer {
 public:
  explicit IdleTimer(const Limits& limits)
      : idle_timeout_(limits.idle_timeout), keepalive_timeout_(limits.keepalive_timeout) {}

  /// A message came (or the connection was established).
  void heard(Millis now);
  /// The clock stands, or stood until now: begin again from here.
  void restart(Millis now);
  void probe_sent(Millis now);
  /// The answer to the probe is still on its way.
  void answer_delayed(Millis now);
  [[nodiscard]] bool probe_due() const { return state_ == State::probe_due; }
  [[nodiscard]] Millis deadline() const;
  [[nodiscard]] bool awaits_answer() const { return state_ == State::probe_sent; }
  /// Makes the probe due. Error: keepalive_timeout.
  [[nodiscard]] std::expected<void, Fault> tick(Millis now);

 private:
  enum class State : uint8_t { listening, probe_due, probe_sent };  // KeepaliveRequested: NONE, PENDING, SENT

  Millis idle_timeout_;
  Millis keepalive_timeout_;
  State state_ = State::listening;
  Millis since_ = 0;
};

/// Send Credit Grant Timer: something to send has been waiting for a send credit.
class SendCreditTimer {
 public:
  explicit SendCreditTimer(const Limits& limits) : timeout_(limits.send_credit_timeout) {}
  void waiting(bool is_waiting, Millis now);
  /// If it waits, it waits from now on.
  void restart(Millis now) {
    if (since_ != kNever) since_ = now;
  }
  [[nodiscard]] Millis deadline() const { return since_ == kNever ? kNever : after(since_, timeout_); }
  [[nodiscard]] std::expected<void, Fault> tick(Millis now) const;

 private:
  Millis timeout_;
  Millis since_ = kNever;
};

}  // namespace smbdirect::protocol::smb_direct
