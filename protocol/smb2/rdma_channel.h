// SPDX-License-Identifier: MIT
// The RDMA-channel fields of a READ or WRITE request and the rules under which a server accepts them
// (MS-SMB2 3.3.5.12, 3.3.5.13). Pure.
#pragma once

#include "protocol/smb2/descriptor.h"
#include "protocol/smb2/pdu.h"

namespace smbdirect::protocol::smb2 {

struct RdmaChannelRequest {
  Command command{};
  uint32_t channel{};
  uint32_t length{};                // bytes to move: READ Length, WRITE RemainingBytes
  bool inline_data = false;         // WRITE: Length or DataOffset is not 0
  uint64_t info_length{};           // ChannelInfoLength as sent
  std::span<const std::byte> info;  // the descriptors' bytes; empty when they do not lie within the request
};
/// `element` passed check_io_body.
[[nodiscard]] RdmaChannelRequest parse_rdma_channel(Command command, std::span<const std::byte> element);

struct RdmaChannelRules {
  uint16_t dialect{};     // 0 before NEGOTIATE: nothing is acceptable
  uint32_t max_length{};  // MaxReadSize or MaxWriteSize, and MaxReadWriteSize
};
/// False: MS-SMB2 wants STATUS_INVALID_PARAMETER.
[[nodiscard]] bool acceptable(const RdmaChannelRequest& request, const RdmaChannelRules& rules);

/// Whether the final response, also an error, must invalidate the first descriptor's token: Channel 2, on a
/// dialect that has it, with a first descriptor to take the token from.
[[nodiscard]] bool wants_invalidate(const RdmaChannelRequest& request, uint16_t dialect);

}  // namespace smbdirect::protocol::smb2
