// SPDX-License-Identifier: MIT
#include "protocol/smb2/rdma_channel.h"

#include "protocol/smb2/fields.h"
#include "protocol/smb2/wire.h"

namespace smbdirect::protocol::smb2 {

RdmaChannelRequest parse_rdma_channel(Command command, std::span<const std::byte> element) {
  RdmaChannelRequest request;
  request.command = command;
  uint64_t offset = 0;
  if (command == Command::read) {
    request.channel = wire::load32(element, read_at::kChannel);
    request.length = wire::load32(element, read_at::kLength);  // RemainingBytes is a hint here
    offset = wire::load16(element, read_at::kChannelInfoOffset);
    request.info_length = wire::load16(element, read_at::kChannelInfoLength);
  } else {
    request.channel = wire::load32(element, write_at::kChannel);
    request.length = wire::load32(element, write_at::kRemainingBytes);
    request.inline_data =
        wire::load32(element, write_at::kLength) != 0 || wire::load16(element, write_at::kDataOffset) != 0;
    offset = wire::load16(element, write_at::kChannelInfoOffset);
    request.info_length = wire::load16(element, write_at::kChannelInfoLength);
  }
  static_assert(read_at::kBuffer == write_at::kBuffer);
  if (offset >= read_at::kBuffer && offset <= element.size() &&
      request.info_length <= element.size() - offset)
    request.info = element.subspan(offset, request.info_length);
  return request;
}

bool acceptable(const RdmaChannelRequest& request, const RdmaChannelRules& rules) {
  const bool known = (request.channel == kChannelRdmaV1 && rules.dialect >= kDialect300) ||
                     (request.channel == kChannelRdmaV1Invalidate && rules.dialect >= kDialect302);
  if (!known) return false;  // SMB2_CHANNEL_RDMA_TRANSFORM too: smbd never agrees to transforms
  if (request.length > rules.max_length) return false;
  if (request.command == Command::write && (request.inline_data || request.length == 0)) return false;
  if (request.info.empty() || request.info_length % kDescriptorBytes != 0) return false;
  if (load_descriptor(request.info).length == 0) return false;
  uint64_t memory = 0;
  for (size_t at = 0; at < request.info.size(); at += kDescriptorBytes)
    memory += load_descriptor(request.info.subspan(at)).length;
  return memory >= request.length;
}

bool wants_invalidate(const RdmaChannelRequest& request, uint16_t dialect) {
  return request.channel == kChannelRdmaV1Invalidate && dialect >= kDialect302 &&
         request.info.size() >= kDescriptorBytes;
}

}  // namespace smbdirect::protocol::smb2
