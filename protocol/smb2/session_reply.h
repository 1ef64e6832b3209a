// SPDX-License-Identifier: MIT
// What a reply shows of the client's session: that the server has let it in, that it is not signed. Pure
// functions over the first bytes of a PDU.
#pragma once

#include <cstddef>
#include <span>

#include "protocol/smb2/fields.h"
#include "protocol/smb2/pdu.h"
#include "protocol/smb2/wire.h"

namespace smbdirect::protocol::smb2 {

/// What of a reply must be in hand to tell.
inline constexpr size_t kSessionReplyBytes = header_at::kFlags;

/// A SESSION_SETUP answered with success (MS-SMB2 3.3.5.5.3), or a reply that is encrypted, which needs a
/// session's keys. Servers that take anonymous clients let them in too.
[[nodiscard]] inline bool shows_session(std::span<const std::byte> reply) {
  switch (protocol_id(reply)) {
    case ProtocolId::encrypted:
      return true;
    case ProtocolId::smb2:
      return reply.size() >= kSessionReplyBytes &&
             wire::load16(reply, header_at::kCommand) == uint16_t(Command::session_setup) &&
             wire::load32(reply, header_at::kStatus) == 0;
    case ProtocolId::compressed:
    case ProtocolId::smb1:
    case ProtocolId::unknown:
      return false;
  }
  return false;
}

/// A reply without signature and encryption that says STATUS_SUCCESS.
[[nodiscard]] inline bool plain_success(std::span<const std::byte> reply) {
  constexpr uint32_t kSigned = 0x8;
  return protocol_id(reply) == ProtocolId::smb2 && reply.size() >= header_at::kFlags + sizeof(uint32_t) &&
         wire::load32(reply, header_at::kStatus) == 0 &&
         (wire::load32(reply, header_at::kFlags) & kSigned) == 0;
}

}  // namespace smbdirect::protocol::smb2
