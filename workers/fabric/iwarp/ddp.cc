// SPDX-License-Identifier: MIT
#include "workers/fabric/iwarp/ddp.h"

#include "workers/fabric/iwarp/byte_order.h"

namespace smbdirect::workers::fabric::iwarp {
namespace {

constexpr unsigned kTagged = 0x80, kLast = 0x40, kDdpVersionMask = 0x03, kDdpVersion = 1;
constexpr unsigned kRdmapVersionShift = 6, kRdmapVersion = 1, kOpcodeMask = 0x0f;

}  // namespace

std::expected<DdpHeader, DdpError> parse_ddp_header(std::span<const std::byte> bytes) {
  if (bytes.size() < 2) return std::unexpected(DdpError::truncated);
  const auto ddp = std::to_integer<unsigned>(bytes[0]);
  const auto rdmap = std::to_integer<unsigned>(bytes[1]);
  DdpHeader header;
  header.tagged = (ddp & kTagged) != 0;
  header.last = (ddp & kLast) != 0;
  header.opcode = static_cast<uint8_t>(rdmap & kOpcodeMask);
  if ((ddp & kDdpVersionMask) != kDdpVersion) {
    return std::unexpected(header.tagged ? DdpError::ddp_version_tagged : DdpError::ddp_version_untagged);
  }
  if (rdmap >> kRdmapVersionShift != kRdmapVersion) return std::unexpected(DdpError::rdmap_version);
  if (bytes.size() < header.size()) return std::unexpected(DdpError::truncated);
  const std::byte* at = bytes.data();
  if (header.tagged) {
    header.stag = get_be32(at + 2);
    header.offset = get_be64(at + 6);
  } else {
    header.invalidate_stag = get_be32(at + 2);
    header.queue = get_be32(at + 6);
    header.msn = get_be32(at + 10);
    header.mo = get_be32(at + 14);
  }
  return header;
}

size_t encode_ddp_header(const DdpHeader& header, std::byte* at) {
  at[0] = static_cast<std::byte>((header.tagged ? kTagged : 0) | (header.last ? kLast : 0) | kDdpVersion);
  at[1] = static_cast<std::byte>(kRdmapVersion << kRdmapVersionShift | (header.opcode & kOpcodeMask));
  if (header.tagged) {
    put_be32(at + 2, header.stag);
    put_be64(at + 6, header.offset);
  } else {
    put_be32(at + 2, header.invalidate_stag);
    put_be32(at + 6, header.queue);
    put_be32(at + 10, header.msn);
    put_be32(at + 14, header.mo);
  }
  return header.size();
}

std::expected<ReadRequest, DdpError> parse_read_request(std::span<const std::byte> bytes) {
  if (bytes.size() < kReadRequestSize) return std::unexpected(DdpError::truncated);
  const std::byte* at = bytes.data();
  return ReadRequest{.sink_stag = get_be32(at),
                     .sink_offset = get_be64(at + 4),
                     .size = get_be32(at + 12),
                     .source_stag = get_be32(at + 16),
                     .source_offset = get_be64(at + 20)};
}

void encode_read_request(const ReadRequest& request, std::byte* at) {
  put_be32(at, request.sink_stag);
  put_be64(at + 4, request.sink_offset);
  put_be32(at + 12, request.size);
  put_be32(at + 16, request.source_stag);
  put_be64(at + 20, request.source_offset);
}

}  // namespace smbdirect::workers::fabric::iwarp
