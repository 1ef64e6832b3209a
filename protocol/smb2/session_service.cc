// SPDX-License-Identifier: MIT
#include "protocol/smb2/session_service.h"

namespace smbdirect::protocol::smb2 {

SessionPacket parse_session_packet(std::span<const std::byte, kNbtBytes> word) {
  const uint32_t length = std::to_integer<uint32_t>(word[1]) << 16 | std::to_integer<uint32_t>(word[2]) << 8 |
                          std::to_integer<uint32_t>(word[3]);
  switch (std::to_integer<unsigned>(word[0])) {
    case 0x00:
      return {SessionPacket::Type::message, length};
    case 0x81:
      // Of the flags only the length's 17th bit is in use.
      return {length <= 0x1FFFF ? SessionPacket::Type::request : SessionPacket::Type::other, length};
    case 0x85:
      return {length == 0 ? SessionPacket::Type::keepalive : SessionPacket::Type::other, length};
    default:
      return {SessionPacket::Type::other, length};
  }
}

}  // namespace smbdirect::protocol::smb2
