// SPDX-License-Identifier: MIT
// One SMB Direct connection as a pure state machine (MS-SMBD 3.1), either role: no I/O, no clock, no
// allocation after construction. Owned by the transport that owns the RDMA endpoint, on one thread.
//
// The owner feeds it: received messages, the number of receives it has posted, the time, and the lengths
// of upper-layer messages to send. It takes from it: delivered payload, message headers to post, how many
// receives to post, and the next deadline. Payload bytes never pass through the engine: it writes headers
// and says how many payload bytes follow each.
//
// Order of calls after any input: post receives_wanted() receives and report them with
// receives_posted(), then call next() until it returns nothing. (A credit is granted only for a receive
// that is posted already; grants ride on what next() returns.)
//
// A Fault means: end the connection now. Every later call is harmless and does nothing.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <optional>
#include <span>

#include "protocol/smbdirect/credits.h"
#include "protocol/smbdirect/fault.h"
#include "protocol/smbdirect/grant_policy.h"
#include "protocol/smbdirect/limits.h"
#include "protocol/smbdirect/reassembly.h"
#include "protocol/smbdirect/timers.h"

namespace smbdirect::protocol::smb_direct {

enum class Phase : uint8_t {
  negotiating,  // passive: until next() has returned the response
  established,
  refusing,  // passive: the response refuses; disconnect once it has been sent
  closed,    // after a Fault
};

/// What a received message means for the upper layer.
struct Delivery {
  enum class Kind : uint8_t { nothing, negotiated, fragment };
  Kind kind = Kind::nothing;
  std::span<const std::byte> data{};  // fragment: inside the message given to receive(); may be empty
  uint64_t total = 0;                 // fragment: length of the whole upper-layer message
  bool first = false;                 // fragment: begins an upper-layer message
  bool last = false;                  // fragment: completes it
  uint16_t credits_granted = 0;       // to us, by this message
};

/// A message to post: header bytes, then `payload` bytes of the upper-layer message in progress.
struct Outgoing {
  std::array<std::byte, 32> header{};
  uint8_t header_size = 0;
  uint32_t payload = 0;
  bool completes = false;        // the last fragment of the upper-layer message
  bool disconnect = false;       // passive, refusing: disconnect after this one has been sent
  uint16_t credits_granted = 0;  // to the peer, by this message
};

/// For logs, statistics and the event ring.
struct Credits {
  uint16_t posted = 0;     // receives posted and not yet consumed
  uint16_t granted = 0;    // of those, granted to the peer
  uint16_t available = 0;  // posted, not granted
  uint16_t receive_target = 0;
  uint16_t send = 0;  // messages we may send
  uint16_t send_target = 0;
};

class Engine {
 public:
  Engine(Role role, const Limits& limits, Millis now);

  // --- receiving ---
  /// Receives the owner should post now. Before negotiation 1 (passive; at least 512 bytes long) or 1
  /// (active). Every posted receive must hold limits.max_receive_size bytes, or 512 if that is larger.
  [[nodiscard]] uint32_t receives_wanted() const;
  void receives_posted(uint32_t count);
  /// One received message; consumes one posted receive. Payload in the result points into `message`.
  [[nodiscard]] std::expected<Delivery, Fault> receive(std::span<const std::byte> message, Millis now);
  /// Back-pressure: while held, no credit is granted beyond the one that must stay (MS-SMBD 3.1.5.9), and
  /// that one, once used, again only after 100 ms, unless a message of ours carries it. With it the peer can
  /// answer a keepalive, so it is probed all the same; the idle clock stands only while it has no credit.
  void hold_grants(bool held);
  /// The most credits the peer may hold from now on, within limits.receive_credit_max: what it has already
  /// stays until it is used.
  void limit_receive_credits(uint16_t most) { credits_.limit(most); }

  // --- sending ---
  /// Begin an upper-layer message of `length` bytes (> 0). Only when !sending(), once agreed() is valid.
  /// False when it is longer than the peer accepts (max_fragmented_send_size).
  [[nodiscard]] bool begin(uint64_t length);
  [[nodiscard]] bool sending() const;
  /// The next message to post, if credits and data allow. ready: bytes of the message in progress that
  /// are at hand and not yet taken. A fragment is taken when it is full-sized or completes the message; or
  /// earlier, even with no payload, when a grant or a keepalive must go out in the middle of a message
  /// (an empty message there would end it). Take at most `payload` bytes off `ready` for each one.
  /// max_payload caps this fragment (at least 1), so that a caller can force a number of fragments.
  [[nodiscard]] std::optional<Outgoing> next(uint64_t ready, Millis now, uint32_t max_payload = UINT32_MAX);

  // --- time ---
  /// The next point in time at which tick() or next() has something to do; UINT64_MAX: none. can_send: false
  /// while the owner has no room for another message: then what is due is sent when there is room again, and
  /// a deadline that only sending meets is not named. After next() has returned nothing, and with room for
  /// more, it is in the future.
  [[nodiscard]] Millis next_deadline(bool can_send = true) const;
  /// Bytes of ours, or of the peer's, have moved below us: it is slow, not dead. An answer that is awaited
  /// (to a keepalive, or with a credit) has its whole time again.
  void peer_moves(Millis now);
  /// An answer is awaited, to a keepalive or with a credit; if none comes in its time, tick() ends the
  /// connection.
  [[nodiscard]] bool awaits_answer() const;
  [[nodiscard]] std::expected<void, Fault> tick(Millis now);

  // --- state ---
  [[nodiscard]] Phase phase() const;
  [[nodiscard]] const Agreed& agreed() const;
  [[nodiscard]] Credits credits() const;
  /// Why the connection is closed or refused; nothing while it is well.
  [[nodiscard]] std::optional<Fault> fault() const { return fault_; }
  /// An upper-layer message from the peer has begun and is not complete.
  [[nodiscard]] bool receiving() const { return reassembly_.in_progress(); }
  /// The limits in force: those given, with the protocol's floors applied.
  [[nodiscard]] const Limits& limits() const { return limits_; }

 private:
  [[nodiscard]] std::expected<Delivery, Fault> receive_request(std::span<const std::byte> message);
  [[nodiscard]] std::expected<Delivery, Fault> receive_response(std::span<const std::byte> message,
                                                                Millis now);
  [[nodiscard]] std::expected<Delivery, Fault> receive_data(std::span<const std::byte> message, Millis now);
  [[nodiscard]] std::optional<Outgoing> next_negotiate(Millis now);
  [[nodiscard]] std::optional<Outgoing> next_data(uint64_t ready, Millis now, uint32_t max_payload);
  [[nodiscard]] Outgoing take(uint32_t payload, bool fragment, Millis now);
  [[nodiscard]] Outgoing refuse(uint32_t status);
  [[nodiscard]] std::unexpected<Fault> fail(Fault fault);
  [[nodiscard]] bool idle_clock_stands() const;
  [[nodiscard]] bool mid_message() const { return sending() && left_ < length_; }
  [[nodiscard]] Millis grant_due() const;
  void observe(Millis now);

  Role role_;
  Limits limits_;
  Phase phase_ = Phase::negotiating;
  std::optional<Fault> fault_;
  Agreed agreed_;

  bool negotiate_due_;  // active: our request is to be sent; passive: our response
  bool refusal_due_ = false;

  CreditLedger credits_;
  GrantPolicy grants_;
  Reassembly reassembly_;
  NegotiationTimer negotiation_timer_;
  IdleTimer idle_timer_;
  SendCreditTimer send_credit_timer_;

  uint64_t length_ = 0;              // of the upper-layer message being sent
  uint64_t left_ = 0;                // of it, not yet taken
  bool response_requested_ = false;  // by the peer: send something promptly
  bool reply_expected_ = false;      // passive: the peer completed a message since we last did
  bool idle_clock_stood_ = true;
};

}  // namespace smbdirect::protocol::smb_direct
