// SPDX-License-Identifier: MIT
// One SMB2 NEGOTIATE, to see whether smbd answers and what it says of itself. Pure; smbdirectctl only.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace smbdirect::daemon::doctor {

/// The request for dialects 2.0.2 to 3.1.1 (MS-SMB2 2.2.3), behind the four bytes of its length on TCP. Any
/// bytes will do as salt; with another client's GUID smbd would pass the connection to that client's process.
[[nodiscard]] std::vector<std::byte> negotiate_request(const std::array<std::byte, 16>& client_guid,
                                                       const std::array<std::byte, 32>& salt);

struct Negotiated {
  uint32_t status = 0;  // NTSTATUS
  uint16_t dialect = 0;
  bool signing_required = false;
  bool multi_channel = false;
};
/// Nothing for what is no NEGOTIATE response (MS-SMB2 2.2.4). The messages are behind their four bytes.
[[nodiscard]] std::optional<Negotiated> parse_negotiated(std::span<const std::byte> message);
/// A negative session response (RFC 1002 4.3.4), with which smbd turns hosts away.
[[nodiscard]] bool is_refusal(std::span<const std::byte> message);

}  // namespace smbdirect::daemon::doctor
