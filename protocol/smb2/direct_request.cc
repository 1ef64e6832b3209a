// SPDX-License-Identifier: MIT
#include "protocol/smb2/direct_request.h"

#include <algorithm>

#include "protocol/smb2/fields.h"
#include "protocol/smb2/rdma_channel.h"
#include "protocol/smb2/request_body.h"
#include "protocol/smb2/response_body.h"
#include "protocol/smb2/wire.h"

namespace smbdirect::protocol::smb2 {
namespace {

/// What says nothing about how a READ or WRITE is done: MS-SMB2 2.2.1.2, SMB2_FLAGS_PRIORITY_MASK.
constexpr uint32_t kIndifferentFlags = 0x70;
constexpr uint64_t kMaxFileEnd = (uint64_t{1} << 63) - 1;

/// Its data goes by RDMA, as a server accepts it.
bool takes_rdma(DirectRequest& request, std::span<const std::byte> pdu, uint32_t max_length,
                uint16_t dialect) {
  const RdmaChannelRequest wanted = parse_rdma_channel(request.command, pdu);
  if (!acceptable(wanted, {.dialect = dialect, .max_length = max_length})) return false;
  request.rdma_channel = true;
  request.length = wanted.length;
  return true;
}

/// Its data is in the PDU.
bool takes_inline(DirectRequest& request, std::span<const std::byte> pdu, uint64_t total,
                  uint32_t max_length) {
  request.length = wire::load32(pdu, read_at::kLength);
  if (request.length > max_length) return false;
  if (request.command == Command::read) return total > read_at::kBuffer;  // smbd wants a byte of Buffer
  request.data_offset = wire::load16(pdu, write_at::kDataOffset);
  return request.data_offset == write_at::kBuffer && request.length <= total - write_at::kBuffer;
}

/// What its Flags ask for is known, and done here as by smbd.
bool takes_flags(Command command, std::span<const std::byte> pdu) {
  if (command == Command::read)  // smbd's way of reading has one kind
    return (wire::load8(pdu, read_at::kFlags) & ~read_at::kFlagUnbuffered) == 0;
  // One that is to be on disk is smbd's: where an older WRITE could not be written back the kernel says so to
  // one of all that have the file open in common, and that is to be who answers FLUSH and CLOSE.
  return wire::load32(pdu, write_at::kFlags) == 0;
}

DirectAnswer turned_round(const DirectRequest& request, std::span<const std::byte> header, uint16_t credits) {
  DirectAnswer answer;
  std::ranges::copy(header.first(kHeaderBytes), answer.bytes.begin());
  const std::span bytes(answer.bytes);
  wire::store(bytes, header_at::kCommand, uint16_t(request.command));
  wire::store(bytes, header_at::kStatus, uint32_t{0});
  wire::store(bytes, header_at::kCredits, credits);
  wire::store(bytes, header_at::kFlags, wire::load32(header, header_at::kFlags) | 1);
  wire::store(bytes, header_at::kNextCommand, uint32_t{0});
  if (request.told) make_async(bytes, request.message_id);
  return answer;
}

}  // namespace

std::optional<DirectRequest> parse_direct_request(std::span<const std::byte> pdu, uint64_t total,
                                                  const DirectLimits& limits) {
  if (total > kMaxStreamPdu || pdu.size() > total) return std::nullopt;
  const auto header = parse_header(pdu);
  if (!header || header->next_command != 0 || (header->flags & ~kIndifferentFlags) != 0) return std::nullopt;
  if (!is_io(header->command) || !check_io_body(pdu)) return std::nullopt;
  DirectRequest request{
      .command = header->command,
      .message_id = header->message_id,
      .charge = limits.multi_credit ? std::max(header->credit_charge, uint16_t{1}) : uint16_t{1},
      .session_id = header->session_id,
      .tree_id = wire::load32(pdu, header_at::kTreeId),
      .channel_sequence = header->channel_sequence()};
  if (request.message_id > kUnsolicitedMessageId - request.charge) return std::nullopt;
  static_assert(read_at::kFileId == write_at::kFileId && read_at::kOffset == write_at::kOffset);
  std::ranges::copy(pdu.subspan(read_at::kFileId, request.file_id.bytes.size()),
                    request.file_id.bytes.begin());
  request.offset = wire::load64(pdu, read_at::kOffset);

  const bool read = header->command == Command::read;
  const bool channel = rdma_channel_of(header->command, pdu) != kChannelNone;
  if (pdu.size() != total && (read || channel || pdu.size() < write_at::kBuffer)) return std::nullopt;
  const uint32_t max_length = read ? limits.max_read : limits.max_write;
  if (channel ? !takes_rdma(request, pdu, max_length, limits.dialect)
              : !takes_inline(request, pdu, total, max_length))
    return std::nullopt;
  if (read) request.minimum = wire::load32(pdu, read_at::kMinimumCount);
  if (request.minimum > request.length) return std::nullopt;
  if (!takes_flags(request.command, pdu)) return std::nullopt;
  if (request.length == 0 || request.length > kReplyUnit * request.charge) return std::nullopt;
  if (request.offset > kMaxFileEnd || request.length > kMaxFileEnd - request.offset) return std::nullopt;
  return request;
}

DirectAnswer answer_interim(DirectRequest& request, std::span<const std::byte> header) {
  request.told = true;
  DirectAnswer answer = turned_round(request, header, 0);
  const std::span bytes(answer.bytes);
  wire::store(bytes, header_at::kStatus, kStatusPending);
  wire::store(bytes, kBodyAt, kErrorStructureSize);
  answer.size = kErrorBytes;
  return answer;
}

DirectAnswer answer_read(const DirectRequest& request, std::span<const std::byte> header, uint32_t count,
                         uint16_t credits) {
  DirectAnswer answer = turned_round(request, header, credits);
  const std::span bytes(answer.bytes);
  wire::store(bytes, kBodyAt, read_response_at::kStructureSize);
  store_read_response(bytes, request.rdma_channel ? 0 : count, request.rdma_channel ? count : 0);
  answer.size = read_response_at::kBuffer;
  return answer;
}

DirectAnswer answer_write(const DirectRequest& request, std::span<const std::byte> header, uint32_t count,
                          uint16_t credits) {
  DirectAnswer answer = turned_round(request, header, credits);
  const std::span bytes(answer.bytes);
  wire::store(bytes, kBodyAt, write_response_at::kStructureSize);
  wire::store(bytes, write_response_at::kCount, count);
  answer.size = write_response_at::kFixedEnd;
  return answer;
}

}  // namespace smbdirect::protocol::smb2
