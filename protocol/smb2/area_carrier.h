// SPDX-License-Identifier: MIT
// How a READ or WRITE whose data goes through memory shared with smbd looks on smbd's stream: an IOCTL with
// FSCTL_SRV_COPYCHUNK_WRITE (MS-SMB2 2.2.31.1), whose resume key names that memory to the module in smbd
// (protocol/proxy/smbdirect_area.h). Its header is that of the READ or WRITE: MessageId, credits, sequence
// and session are the client's own. Pure.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <span>

#include "protocol/smb2/pdu.h"

namespace smbdirect::protocol::smb2 {

using AreaToken = std::array<std::byte, 16>;  // SMBDIRECT_TOKEN_SIZE

/// Where in which area the data of one READ or WRITE is.
struct AreaPlace {
  AreaToken token{};
  uint64_t offset = 0;
};

/// A READ or WRITE that may go through an area: its data goes by RDMA, it is alone in its PDU, not signed,
/// and such that a server accepts it.
struct AreaIo {
  Command command{};
  uint64_t session_id{};
  uint32_t tree_id{};
  uint32_t length{};
};

inline constexpr size_t kCarrierBytes = 64 + 56 + 56;  // header, IOCTL, SRV_COPYCHUNK_COPY with one chunk
using CarrierBytes = std::array<std::byte, kCarrierBytes>;

/// `request`: the READ or WRITE, whose fixed part is there. length: bytes it moves. dialect: what its Flags
/// mean.
[[nodiscard]] CarrierBytes encode_carrier(Command command, std::span<const std::byte> request,
                                          uint32_t length, const AreaPlace& place, uint16_t dialect);

/// What smbd has answered to a carrier.
struct CarrierAnswer {
  uint32_t status{};  // an NTSTATUS: 0, or a failure
  uint32_t count{};   // bytes moved, where status is 0
};
/// The final answer, of `length` bytes that `prefix` begins. Errors: bad_body, bad_structure_size.
[[nodiscard]] std::expected<CarrierAnswer, Violation> parse_carrier_answer(const Header& header,
                                                                           std::span<const std::byte> prefix,
                                                                           uint64_t length);

/// Whether a request's first bytes are those of a COPYCHUNK whose resume key bears the mark of ours. smbd
/// gives out no such key: the sender has it from nobody.
[[nodiscard]] bool is_marked_copychunk(const Header& header, std::span<const std::byte> element);

}  // namespace smbdirect::protocol::smb2
