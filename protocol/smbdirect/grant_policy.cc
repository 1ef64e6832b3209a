// SPDX-License-Identifier: MIT
#include "protocol/smbdirect/grant_policy.h"

#include <algorithm>

namespace smbdirect::protocol::smb_direct {
namespace {

// All far below the 5 s a peer with waiting data allows for a grant (Send Credit Grant Timer).
constexpr Millis kReplyGrace = 5;           // a reply mostly comes sooner
constexpr Millis kBurstGrace = 1;           // few credits in all: let a burst use them up first
constexpr Millis kLastCreditGrace = 100;    // an empty message would use the credit the reply needs
constexpr Millis kQuietStep = 100;          // doubled each time ...
constexpr uint8_t kQuietLevelMax = 4;       // ... up to 800 ms
constexpr Millis kHeldGrantInterval = 100;  // the one credit that stays, while grants are held

Millis quiet_delay(uint8_t level) { return level == 0 ? 0 : kQuietStep << (level - 1); }

}  // namespace

void GrantPolicy::received(bool data, Millis now) {
  last_received_ = now;
  if (data) {
    owed_ = true;
    quiet_level_ = 0;
  }
}

void GrantPolicy::sent(bool data, uint16_t grant, const CreditLedger& credits, Millis now) {
  if (data) {
    quiet_level_ = 0;
  } else if (quiet() && grant > 0) {
    quiet_level_ = std::min<uint8_t>(quiet_level_ + 1, kQuietLevelMax);
  }
  if (grant > 0) {
    ever_granted_ = true;
    last_grant_ = now;
  }
  granted_while_held_ = credits.held() && (granted_while_held_ || grant > 0);
  if (!credits.held() && credits.granted() >= credits.ceiling()) owed_ = false;
}

Millis GrantPolicy::due(const CreditLedger& credits, bool reply_expected) const {
  if (!credits.may_send() || credits.grantable() == 0) return kNever;
  if (!ever_granted_) return 0;
  const uint16_t granted = credits.granted();
  if (credits.held()) {
    if (granted > 0) return kNever;
    return granted_while_held_ ? after(last_grant_, kHeldGrantInterval) : 0;
  }
  if (granted > std::max<uint16_t>(credits.low_water(), 1)) return kNever;

  const bool last_credit = credits.send() == 1;
  if (owed_ && granted <= credits.low_water()) {
    if (granted == 0 && !reply_expected) return 0;
    if (last_credit) return after(last_received_, kLastCreditGrace);
    if (granted > 0 && !credits.small_target()) return 0;
    return after(last_received_, reply_expected ? kReplyGrace : kBurstGrace);
  }
  if (granted == 0) {
    const Millis grace = last_credit && reply_expected ? kLastCreditGrace : 0;
    return after(last_received_, std::max(grace, quiet_delay(quiet_level_)));
  }
  // Strictly by the text, a peer at its last credit may be stuck. With no more than 2 to grant the
  // answer to this message would bring us here again, for ever.
  if (granted == 1 && credits.ceiling() > 2) {
    return after(last_received_, quiet_delay(std::max<uint8_t>(quiet_level_, 1)));
  }
  return kNever;
}

}  // namespace smbdirect::protocol::smb_direct
