// SPDX-License-Identifier: MIT
// Whether a reply shows that the server has let the client in. Pure functions over the first bytes of a PDU.
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

}  // namespace smbdirect::protocol::smb2
