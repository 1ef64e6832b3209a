// SPDX-License-Identifier: MIT
// The multi-protocol negotiation of clients that also support SMB1 (MS-SMB2 3.2.4.2.2.1, 3.3.5.3): their
// first message is an SMB1 NEGOTIATE that has SMB2 among its dialects, and the response is SMB2. SMB Direct
// carries no SMB1, so smbdirect-connect answers in the server's place. Pure.
//
// "SMB 2.???" is answered with the dialect 0x02FF, and the client continues with an SMB2 NEGOTIATE. That has
// MessageId 1, because the SMB1 message counted as 0; the server, which has not seen it, must count one, too.
// So the server is sent a NEGOTIATE with MessageId 0 that offers only 0x02FF, which is not a dialect: it
// refuses that (MS-SMB2 3.3.5.4) and waits for another. "SMB 2.002" alone is a decision: the server is sent a
// NEGOTIATE with that one dialect, and its response goes to the client.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <span>

#include "protocol/smb2/fields.h"
#include "protocol/smb2/pdu.h"

namespace smbdirect::protocol::smb2 {

/// More is no NEGOTIATE of SMB1's: its dialects are names.
inline constexpr uint32_t kMaxSmb1Negotiate = 4096;

/// What an SMB1 NEGOTIATE request (MS-CIFS 2.2.4.52.1) asks for of SMB2: kDialectWildcard, else 0x0202
/// ("SMB 2.002"). Errors: not_smb2 when it is no SMB1 PDU; wrong_direction; bad_body; smb1 when it is another
/// command or offers no SMB2.
[[nodiscard]] std::expected<uint16_t, Violation> parse_multi_protocol_negotiate(
    std::span<const std::byte> pdu);

inline constexpr size_t kMultiProtocolNegotiateBytes = 102;
/// For the server: a NEGOTIATE of MessageId 0 that offers this and asks for one credit. Requires out.size()
/// >= kMultiProtocolNegotiateBytes.
void store_multi_protocol_negotiate(std::span<std::byte> out, uint16_t dialect);

/// For the client: the answer to "SMB 2.???", with the credit for its next NEGOTIATE. system_time: as MS-DTYP
/// 2.3.3 has it.
[[nodiscard]] std::array<std::byte, negotiate_at::kResponseFixedEnd> multi_protocol_response(
    uint64_t system_time);

}  // namespace smbdirect::protocol::smb2
