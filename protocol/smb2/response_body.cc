// SPDX-License-Identifier: MIT
#include "protocol/smb2/response_body.h"

#include "protocol/smb2/wire.h"

namespace smbdirect::protocol::smb2 {

std::expected<std::optional<NegotiateResponse>, Violation> parse_negotiate_response(
    const Header& header, std::span<const std::byte> prefix) {
  if (header.status != 0) return std::nullopt;
  if (prefix.size() < negotiate_at::kMaxWriteSize + sizeof(uint32_t))
    return std::unexpected(Violation::bad_body);
  if (wire::load16(prefix, kBodyAt) != negotiate_at::kResponseStructureSize)
    return std::unexpected(Violation::bad_structure_size);
  return NegotiateResponse{
      wire::load16(prefix, negotiate_at::kDialectRevision),
      wire::load32(prefix, negotiate_at::kMaxTransactSize), wire::load32(prefix, negotiate_at::kMaxReadSize),
      wire::load32(prefix, negotiate_at::kMaxWriteSize), wire::load32(prefix, negotiate_at::kCapabilities)};
}

std::expected<ReadResponse, Violation> parse_read_response(std::span<const std::byte> prefix,
                                                           uint64_t length) {
  if (length < read_response_at::kBuffer || prefix.size() < read_response_at::kBuffer)
    return std::unexpected(Violation::bad_body);
  if (wire::load16(prefix, kBodyAt) != read_response_at::kStructureSize)
    return std::unexpected(Violation::bad_structure_size);
  ReadResponse response{wire::load8(prefix, read_response_at::kDataOffset),
                        wire::load32(prefix, read_response_at::kDataLength),
                        wire::load32(prefix, read_response_at::kDataRemaining)};
  if (response.length == 0) {
    response.offset = read_response_at::kBuffer;  // DataOffset points at nothing
    return response;
  }
  if (response.offset < read_response_at::kBuffer || response.offset > length ||
      response.length > length - response.offset)
    return std::unexpected(Violation::bad_body);
  return response;
}

std::expected<uint32_t, Violation> parse_write_response(std::span<const std::byte> prefix, uint64_t length) {
  if (length < write_response_at::kFixedEnd || prefix.size() < write_response_at::kFixedEnd)
    return std::unexpected(Violation::bad_body);
  if (wire::load16(prefix, kBodyAt) != write_response_at::kStructureSize)
    return std::unexpected(Violation::bad_structure_size);
  return wire::load32(prefix, write_response_at::kCount);
}

void store_read_response(std::span<std::byte> bytes, uint32_t length, uint32_t remaining) {
  wire::store(bytes, read_response_at::kDataOffset, static_cast<uint8_t>(read_response_at::kBuffer));
  wire::store(bytes, read_response_at::kReserved, uint8_t{0});
  wire::store(bytes, read_response_at::kDataLength, length);
  wire::store(bytes, read_response_at::kDataRemaining, remaining);
  wire::store(bytes, read_response_at::kFlags, uint32_t{0});
}

}  // namespace smbdirect::protocol::smb2
