// SPDX-License-Identifier: MIT
// What an SMB client may send on a TCP connection between its messages: the packets of the NetBIOS session
// service (RFC 1002 4.3), of which MS-SMB2 2.1's direct framing uses the first. Pure.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "protocol/smb2/pdu.h"

namespace smbdirect::protocol::smb2 {

struct SessionPacket {
  enum class Type : uint8_t {
    message,    // `length` bytes of SMB follow, 24 bits as MS-SMB2 2.1 has it
    request,    // SESSION REQUEST, as to port 139: two names follow, and the answer is awaited
    keepalive,  // SESSION KEEP ALIVE: nothing follows and nothing is answered
    other,      // what a server says, or no such packet
  };
  Type type{};
  uint32_t length{};  // of what follows
};
[[nodiscard]] SessionPacket parse_session_packet(std::span<const std::byte, kNbtBytes> word);

/// Longer than two encoded names with scopes can be, it is none (RFC 1002 4.3.2).
inline constexpr uint32_t kMaxSessionRequest = 2 * 255;
/// POSITIVE SESSION RESPONSE (RFC 1002 4.3.3).
inline constexpr std::array<std::byte, kNbtBytes> kPositiveSessionResponse{std::byte{0x82}};

}  // namespace smbdirect::protocol::smb2
