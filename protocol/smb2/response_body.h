// SPDX-License-Identifier: MIT
// Facts of one response from its first bytes: what NEGOTIATE agreed, where READ's data lie, what was written.
// Pure.
#pragma once

#include <optional>

#include "protocol/smb2/fields.h"
#include "protocol/smb2/pdu.h"

namespace smbdirect::protocol::smb2 {

/// MS-SMB2 2.2.4.
struct NegotiateResponse {
  uint16_t dialect{};
  uint32_t max_transact_size{};
  uint32_t max_read_size{};
  uint32_t max_write_size{};
  uint32_t capabilities{};
  /// One request may take several credits (MS-SMB2 3.3.5.4).
  [[nodiscard]] bool multi_credit() const {
    return dialect >= kDialect210 && (capabilities & negotiate_at::kCapabilityLargeMtu) != 0;
  }
};
/// nullopt: not a success. `prefix` begins with the header; kPrefixBytes suffice.
/// Errors: bad_body, bad_structure_size.
[[nodiscard]] std::expected<std::optional<NegotiateResponse>, Violation> parse_negotiate_response(
    const Header& header, std::span<const std::byte> prefix);

/// MS-SMB2 2.2.20.
struct ReadResponse {
  uint32_t offset{};     // of the data, from the header; within the response
  uint32_t length{};     // DataLength
  uint32_t remaining{};  // DataRemaining
};
/// A response of `length` bytes whose first bytes (80 suffice) are `prefix`.
/// Errors: bad_body, bad_structure_size.
[[nodiscard]] std::expected<ReadResponse, Violation> parse_read_response(std::span<const std::byte> prefix,
                                                                         uint64_t length);
/// MS-SMB2 2.2.22: Count, of a response of `length` bytes. Errors: bad_body, bad_structure_size.
[[nodiscard]] std::expected<uint32_t, Violation> parse_write_response(std::span<const std::byte> prefix,
                                                                      uint64_t length);
/// Makes the 80 bytes of a READ response say: data follow at once, `length` of them here and `remaining`
/// by RDMA. The rest of the header stays.
void store_read_response(std::span<std::byte> bytes, uint32_t length, uint32_t remaining);

}  // namespace smbdirect::protocol::smb2
