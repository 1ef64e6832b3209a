// SPDX-License-Identifier: MIT
#include "protocol/smbdirect/timers.h"

namespace smbdirect::protocol::smb_direct {

std::expected<void, Fault> NegotiationTimer::tick(Millis now) const {
  if (deadline_ == kNever || now < deadline_) return {};
  return std::unexpected(Fault::negotiate_timeout);
}

void IdleTimer::heard(Millis now) {
  state_ = State::listening;
  since_ = now;
}

void IdleTimer::restart(Millis now) {
  if (state_ != State::probe_due) since_ = now;
}

void IdleTimer::probe_sent(Millis now) {
  state_ = State::probe_sent;
  since_ = now;
}

void IdleTimer::answer_delayed(Millis now) {
  if (state_ == State::probe_sent) since_ = now;
}

Millis IdleTimer::deadline() const {
  switch (state_) {
    case State::listening:
      return after(since_, idle_timeout_);
    case State::probe_sent:
      return after(since_, keepalive_timeout_);
    case State::probe_due:
      break;
  }
  return kNever;
}

std::expected<void, Fault> IdleTimer::tick(Millis now) {
  if (deadline() == kNever || now < deadline()) return {};
  if (state_ == State::probe_sent) return std::unexpected(Fault::keepalive_timeout);
  state_ = State::probe_due;
  return {};
}

void SendCreditTimer::waiting(bool is_waiting, Millis now) {
  if (!is_waiting) {
    since_ = kNever;
  } else if (since_ == kNever) {
    since_ = now;
  }
}

std::expected<void, Fault> SendCreditTimer::tick(Millis now) const {
  if (deadline() == kNever || now < deadline()) return {};
  return std::unexpected(Fault::send_credit_timeout);
}

}  // namespace smbdirect::protocol::smb_direct
