// SPDX-License-Identifier: MIT
// The counting of credits, both directions (MS-SMBD 3.1.1.1, 3.1.5.1, 3.1.5.8, 3.1.5.9): how many receives
// to post, what a message may grant, whether a message may be sent. When a grant is worth a message of its
// own is grant_policy.h's question. Part of an Engine; same owner, same thread.
//
// Receives are counted three ways and never derived from each other's past: posted (the owner reported
// them), granted (of those, promised to the peer), and available (posted, not promised). A grant is taken
// from `available` only, so the peer can never hold a credit without a receive behind it.
//
// One receive is posted beyond the target and never granted in the ordinary way: it is what 3.1.5.9 asks
// for when one send credit is left, since the last credit may only be spent on a message that grants.
#pragma once

#include <cstdint>
#include <expected>

#include "protocol/smbdirect/fault.h"
#include "protocol/smbdirect/limits.h"

namespace smbdirect::protocol::smb_direct {

class CreditLedger {
 public:
  /// limits: normalized.
  explicit CreditLedger(const Limits& limits)
      : initial_(limits.receive_credit_initial),
        configured_max_(limits.receive_credit_max),
        max_(configured_max_) {}

  // --- receives ---
  [[nodiscard]] uint32_t wanted() const;
  void posted(uint32_t count);
  /// A negotiate message took a posted receive; it needs no credit. False: none was posted.
  [[nodiscard]] bool consume_uncredited();

  // --- negotiation ---
  /// The peer's CreditsRequested is known: the target is set.
  void open(uint16_t peer_requested);
  /// Passive: everything posted becomes the response's CreditsGranted (0: refuse).
  [[nodiscard]] uint16_t grant_at_negotiation();
  /// Active: the response's CreditsGranted.
  void start_sending(uint16_t credits);

  // --- established ---
  /// One data transfer message came. Errors: no_receive_credit, credit_overflow.
  [[nodiscard]] std::expected<void, Fault> receive(uint16_t requested, uint16_t granted, bool data,
                                                   Millis now);
  void hold(bool held) { held_ = held; }
  /// The most receives posted from now on, between 2 and the limits' own.
  void limit(uint16_t most);
  /// What a message sent now grants. `quiet`: only empty messages came lately; then, with the last send
  /// credit, leave the peer one credit more than it must spend on giving ours back, so that two sides with
  /// one credit each come to rest instead of passing it to and fro.
  [[nodiscard]] uint16_t grantable(bool quiet = false) const;
  [[nodiscard]] bool may_send() const { return send_ > 1 || (send_ == 1 && grantable() > 0); }
  /// A message that grants `grant` was taken for sending.
  void sent(uint16_t grant);

  [[nodiscard]] bool held() const { return held_; }
  [[nodiscard]] uint16_t posted() const { return posted_; }
  [[nodiscard]] uint16_t granted() const { return granted_; }
  [[nodiscard]] uint16_t available() const { return static_cast<uint16_t>(posted_ - granted_); }
  [[nodiscard]] uint16_t target() const { return target_; }
  [[nodiscard]] uint16_t send() const { return send_; }
  /// The most that is granted in the ordinary way.
  [[nodiscard]] uint16_t ceiling() const;
  /// So few credits in all that a quarter of them says nothing.
  [[nodiscard]] bool small_target() const { return target_ < 16; }
  /// At this many credits left the peer is running low.
  [[nodiscard]] uint16_t low_water() const;

 private:
  enum class Stage : uint8_t { awaiting_negotiate, opening, open };

  void adapt_target(bool data, Millis now);

  uint16_t initial_;
  uint16_t configured_max_;
  uint16_t max_;
  Stage stage_ = Stage::awaiting_negotiate;
  bool held_ = false;
  uint16_t posted_ = 0;
  uint16_t granted_ = 0;
  uint16_t target_ = 0;
  uint16_t peer_requested_ = 0;  // the peer's latest CreditsRequested
  uint16_t send_ = 0;
  uint16_t lowest_granted_ = UINT16_MAX;  // in the present window
  Millis window_start_ = kNever;
};

}  // namespace smbdirect::protocol::smb_direct
