// SPDX-License-Identifier: MIT
// Roles, our limits, the limits that were negotiated, and the constants of MS-SMBD. Plain values; nobody owns
// them, any process may use them.
#pragma once

#include <cstdint>

namespace smbdirect::protocol::smb_direct {

using Millis = uint64_t;  // monotonic milliseconds, any origin, given by the caller

inline constexpr Millis kNever = UINT64_MAX;

/// `timeout` after `start`; kNever when that is past the end of time.
[[nodiscard]] constexpr Millis after(Millis start, Millis timeout) {
  return timeout > kNever - start ? kNever : start + timeout;
}

inline constexpr uint16_t kVersion1 = 0x0100;                // MS-SMBD 2.2.1
inline constexpr uint32_t kMinReceiveSize = 128;             // MS-SMBD 3.1.5.6, floor of MaxReceiveSize
inline constexpr uint32_t kMinFragmentedSize = 131'072;      // MS-SMBD 3.1.5.6, floor of MaxFragmentedSize
inline constexpr uint32_t kNegotiateReceiveSize = 512;       // MS-SMBD 3.1.4.2, receive for the request
inline constexpr uint32_t kStatusSuccess = 0;                // NTSTATUS
inline constexpr uint32_t kStatusNotSupported = 0xC00000BB;  // NTSTATUS
inline constexpr uint32_t kStatusInsufficientResources = 0xC000009A;

enum class Role : uint8_t {
  passive,  // the server: accepted the RDMA connection, answers the negotiate request
  active,   // the client: connected, sends the negotiate request
};

/// Our own limits, before negotiation (MS-SMBD 3.1.1.1 names; defaults: docs/internals.md). The engine raises
/// values below the protocol's floors to them.
struct Limits {
  uint16_t receive_credit_initial = 32;  // receives posted and granted at first
  uint16_t receive_credit_max = 255;     // most receives ever posted, at least 2 (grows with use, decays)
  uint16_t send_credit_target = 255;     // CreditsRequested we send
  uint32_t max_send_size = 8192;
  uint32_t max_receive_size = 8192;
  uint32_t max_fragmented_size = 8 * 1024 * 1024 + 128 * 1024;
  uint32_t max_read_write_size = 8 * 1024 * 1024;
  Millis negotiate_timeout = 5'000;  // passive: for the request; active: for the response
  Millis idle_timeout = 120'000;     // nothing received for this long: ask (RESPONSE_REQUESTED)
  Millis keepalive_timeout = 5'000;  // ... and no answer for this long: Fault
  // Data waiting, no send credit and no byte moved for this long: Fault. MS-SMBD's Send Credit Grant Timer is
  // 5 s; a suspended client, or a link that is down for a while, comes back after longer than that, and its
  // connection would have survived over TCP.
  Millis send_credit_timeout = 60'000;

  [[nodiscard]] bool operator==(const Limits&) const = default;
};

/// The same limits with the protocol's floors applied.
[[nodiscard]] Limits normalized(Limits limits);

/// Agreed sizes, valid once established.
struct Agreed {
  uint32_t max_send_size = 0;             // largest message we may send (header included)
  uint32_t max_receive_size = 0;          // largest message the peer may send us
  uint32_t max_fragmented_send_size = 0;  // largest upper-layer message the peer takes
  uint32_t max_read_write_size = 0;       // active: min(ours, peer's); passive: ours
};

}  // namespace smbdirect::protocol::smb_direct
