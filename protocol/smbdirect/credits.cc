// SPDX-License-Identifier: MIT
#include "protocol/smbdirect/credits.h"

#include <algorithm>

namespace smbdirect::protocol::smb_direct {
namespace {

constexpr Millis kDecayWindow = 10'000;  // a target unused this long is halved

}  // namespace

uint16_t CreditLedger::ceiling() const { return std::min<uint16_t>(target_, max_ - 1); }

uint16_t CreditLedger::low_water() const {
  // A peer at its last credit cannot use it unless it has something to grant (MS-SMBD 3.1.5.1), so 1 is low.
  return small_target() ? std::min<uint16_t>(1, target_ - 1) : target_ / 4;
}

uint32_t CreditLedger::wanted() const {
  uint32_t want = 0;
  switch (stage_) {
    case Stage::awaiting_negotiate:
      want = 1;
      break;
    case Stage::opening:
      want = target_;
      break;
    case Stage::open:
      // While held: only for the credit that must stay and for the last send credit's grant.
      want = std::min<uint32_t>(max_, std::max<uint32_t>(held_ ? 0 : ceiling(), granted_) + 1);
      break;
  }
  return want > posted_ ? want - posted_ : 0;
}

void CreditLedger::limit(uint16_t most) {
  max_ = std::clamp<uint16_t>(most, 2, configured_max_);
  target_ = std::min(target_, max_);
}

void CreditLedger::posted(uint32_t count) {
  posted_ = static_cast<uint16_t>(std::min<uint64_t>(uint64_t{posted_} + count, UINT16_MAX));
}

bool CreditLedger::consume_uncredited() {
  if (posted_ == 0) return false;
  --posted_;
  return true;
}

void CreditLedger::open(uint16_t peer_requested) {
  peer_requested_ = peer_requested;
  target_ = std::min(peer_requested, initial_);
  stage_ = Stage::opening;
}

uint16_t CreditLedger::grant_at_negotiation() {
  granted_ = std::min(posted_, target_);
  stage_ = Stage::open;
  return granted_;
}

void CreditLedger::start_sending(uint16_t credits) {
  send_ = credits;
  stage_ = Stage::open;
}

std::expected<void, Fault> CreditLedger::receive(uint16_t requested, uint16_t granted, bool data,
                                                 Millis now) {
  if (granted_ == 0) return std::unexpected(Fault::no_receive_credit);
  if (uint32_t{send_} + granted > UINT16_MAX) return std::unexpected(Fault::credit_overflow);
  --granted_;
  --posted_;
  send_ = static_cast<uint16_t>(send_ + granted);
  peer_requested_ = requested;
  adapt_target(data, now);
  return {};
}

// A credit cannot be taken back, so the target shrinks by not granting again what was used.
void CreditLedger::adapt_target(bool data, Millis now) {
  if (window_start_ == kNever) window_start_ = now;
  const uint16_t most = std::min(max_, peer_requested_);
  if (data && !held_ && granted_ <= low_water()) {
    target_ = static_cast<uint16_t>(std::min<uint32_t>(uint32_t{target_} * 2, most));
  }
  if (now - window_start_ >= kDecayWindow) {
    // What counts is how deep the peer went in the window; further windows passed in silence.
    const uint32_t used = target_ > lowest_granted_ ? target_ - lowest_granted_ : 0;
    uint64_t halvings = (now - window_start_) / kDecayWindow - (used < target_ / 4u ? 0 : 1);
    for (; halvings > 0 && target_ > initial_; --halvings) {
      target_ = std::max<uint16_t>(initial_, target_ / 2);
    }
    window_start_ = now;
    lowest_granted_ = granted_;
  }
  lowest_granted_ = std::min(lowest_granted_, granted_);
  target_ = std::min(target_, most);
}

uint16_t CreditLedger::grantable(bool quiet) const {
  const uint16_t room = std::min(available(), static_cast<uint16_t>(max_ > granted_ ? max_ - granted_ : 0));
  uint16_t most = 0;
  if (held_) {
    most = granted_ == 0 ? 1 : 0;
  } else if (ceiling() > granted_) {
    most = static_cast<uint16_t>(ceiling() - granted_);
  }
  uint16_t grant = std::min(most, room);
  if (send_ == 1 && room > grant) {
    if (grant == 0 || (quiet && !held_ && granted_ + grant == 1)) ++grant;
  }
  return grant;
}

void CreditLedger::sent(uint16_t grant) {
  --send_;
  granted_ = static_cast<uint16_t>(granted_ + grant);
}

}  // namespace smbdirect::protocol::smb_direct
