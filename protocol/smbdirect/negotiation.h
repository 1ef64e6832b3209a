// SPDX-License-Identifier: MIT
// What the two negotiate messages mean (MS-SMBD 3.1.5.2, 3.1.5.3, 3.1.5.6, 3.1.5.7): our limits and the
// peer's message in, the agreed sizes or the reason to end out. Pure functions, both roles.
#pragma once

#include <expected>

#include "protocol/smbdirect/fault.h"
#include "protocol/smbdirect/limits.h"
#include "protocol/smbdirect/messages.h"

namespace smbdirect::protocol::smb_direct {

/// MS-SMBD 3.1.5.2.
[[nodiscard]] NegotiateRequest make_request(const Limits& limits);

/// MS-SMBD 3.1.5.6. version_unsupported calls for a response with STATUS_NOT_SUPPORTED before the end;
/// every other error ends the connection without an answer.
/// Errors: version_unsupported, credits_requested_zero, max_receive_size_too_small,
/// max_fragmented_size_too_small.
[[nodiscard]] std::expected<Agreed, Fault> check_request(const NegotiateRequest& request,
                                                         const Limits& limits);

/// MS-SMBD 3.1.5.3, success.
[[nodiscard]] NegotiateResponse make_response(const Agreed& agreed, const Limits& limits,
                                              uint16_t credits_granted);
/// MS-SMBD 3.1.5.3, failure: only the versions and the status are set.
[[nodiscard]] NegotiateResponse make_refusal(uint32_t status);

/// MS-SMBD 3.1.5.7.
/// Errors: negotiate_refused (a status), version_unsupported, credits_requested_zero,
/// max_receive_size_too_small, max_fragmented_size_too_small, response_invalid (the rest).
[[nodiscard]] std::expected<Agreed, Fault> check_response(const NegotiateResponse& response,
                                                          const Limits& limits);

}  // namespace smbdirect::protocol::smb_direct
