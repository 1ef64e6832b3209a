// SPDX-License-Identifier: MIT
// Checks a response against the request with its MessageId, for both translators. Pure; changes only what the
// request records of its interim response.
#pragma once

#include "protocol/smb2/request_table.h"
#include "protocol/smb2/response_body.h"

namespace smbdirect::protocol::smb2 {

enum class Answer : uint8_t {
  interim,  // STATUS_PENDING (MS-SMB2 3.3.4.2): the request goes on
  final,
};
/// The header of a response of `length` bytes that `prefix` begins. Errors: response_too_early,
/// response_wrong_command, response_bad_pending, bad_body, bad_structure_size.
[[nodiscard]] std::expected<Answer, Violation> check_answer(InFlight& request, const Header& header,
                                                            std::span<const std::byte> prefix,
                                                            uint64_t length);

/// Checks the body of the final response to a READ or WRITE: status and structure agree, and it reports no
/// more bytes than were asked for. nullopt: a failure, or a WRITE. Errors: response_too_long, bad_body,
/// bad_structure_size.
[[nodiscard]] std::expected<std::optional<ReadResponse>, Violation> check_io_answer(
    const InFlight& request, const Header& header, std::span<const std::byte> prefix, uint64_t length);

}  // namespace smbdirect::protocol::smb2
