// SPDX-License-Identifier: MIT
// Why an SMB Direct connection must end: the vocabulary of logs, counters and tests, with its one table of
// texts (fault.cc). Plain values, usable anywhere.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace smbdirect::protocol::smb_direct {

/// Why a connection must end. One table (fault.cc) gives the words for logs and counters.
enum class Fault : uint8_t {
  // clang-format off
  message_too_short, message_too_long, version_unsupported, credits_requested_zero, max_receive_size_too_small,
  max_fragmented_size_too_small, negotiate_refused, negotiate_timeout, data_offset_misaligned,
  data_beyond_message, exceeds_max_fragmented, reassembly_mismatch, no_receive_credit, credit_overflow,
  send_credit_timeout, keepalive_timeout, response_invalid,
  // clang-format on
};

inline constexpr size_t kFaultCount = static_cast<size_t>(Fault::response_invalid) + 1;

/// The sentence for a person: what was wrong.
[[nodiscard]] std::string_view fault_text(Fault fault);
/// The enumerator's own name, stable: for counters and metrics.
[[nodiscard]] std::string_view fault_name(Fault fault);

}  // namespace smbdirect::protocol::smb_direct
