// SPDX-License-Identifier: MIT
// When granting credits is worth a message of its own. Every message that has data carries what can be
// granted anyway (credits.h); this decides about the rest: promptly, a little later (a reply with data is
// likely to come), or not at all. Part of an Engine; same owner, same thread.
//
// Two sides that each answer an empty message with an empty message never stop. So an empty message is
// owed only after data used credits; where only empty messages did, it is sent when the peer has nothing
// left, at once the first time and then ever more slowly (which lasts only against a peer that insists).
#pragma once

#include "protocol/smbdirect/credits.h"

namespace smbdirect::protocol::smb_direct {

class GrantPolicy {
 public:
  /// A data transfer message came, with or without data.
  void received(bool data, Millis now);
  /// A message that granted `grant` was taken for sending; `credits` has counted it already.
  void sent(bool data, uint16_t grant, const CreditLedger& credits, Millis now);
  /// Credits were withheld and may be granted again.
  void released() { owed_ = true; }

  /// From when on an empty message should be sent to grant; kNever: none is due, or none could be sent.
  /// reply_expected: the peer awaits a message with data from us, which will carry the grant.
  [[nodiscard]] Millis due(const CreditLedger& credits, bool reply_expected) const;
  /// Only empty messages used credits since the last full grant.
  [[nodiscard]] bool quiet() const { return ever_granted_ && !owed_; }
  /// The active side may send nothing before it has granted: the passive side starts without credits.
  [[nodiscard]] bool ever_granted() const { return ever_granted_; }
  /// Passive: the negotiate response granted.
  void granted_at_negotiation() { ever_granted_ = true; }

 private:
  bool ever_granted_ = false;
  bool owed_ = false;        // data used credits that were not granted again
  uint8_t quiet_level_ = 0;  // empty messages sent in quiet times, in a row
  Millis last_received_ = 0;
  Millis last_grant_ = 0;
  bool granted_while_held_ = false;
};

}  // namespace smbdirect::protocol::smb_direct
