// SPDX-License-Identifier: MIT
#include "protocol/smb2/pdu.h"

#include <algorithm>

#include "protocol/smb2/fields.h"
#include "protocol/smb2/wire.h"

namespace smbdirect::protocol::smb2 {

std::string_view violation_text(Violation violation) {
  switch (violation) {
    case Violation::too_short:
      return "SMB2 PDU shorter than its header";
    case Violation::not_smb2:
      return "not an SMB2 PDU";
    case Violation::smb1:
      return "SMB1 PDU (SMB Direct carries SMB 3.0 and later only)";
    case Violation::bad_header_size:
      return "SMB2 header with a StructureSize other than 64";
    case Violation::bad_next_command:
      return "SMB2 NextCommand misaligned or outside the PDU";
    case Violation::bad_structure_size:
      return "SMB2 body with an unexpected StructureSize";
    case Violation::bad_body:
      return "SMB2 body whose offsets or lengths leave the PDU";
    case Violation::signed_rdma_channel_request:
      return "signed READ or WRITE that asks for RDMA placement";
    case Violation::duplicate_message_id:
      return "SMB2 request with the MessageId of a request that is still in flight";
    case Violation::too_many_requests:
      return "more SMB2 requests in flight than allowed";
    case Violation::nbt_refusal:
      return "smbd refused the connection (see hosts allow and hosts deny in smb.conf)";
    case Violation::response_too_long:
      return "READ or WRITE response of more bytes than were asked for";
    case Violation::response_unmatched_data:
      return "READ or WRITE response that matches no such request";
    case Violation::compound_invalidate:
      return "compound response with more tokens to invalidate than fragments";
    case Violation::wrong_direction:
      return "SMB2 response where a request belongs, or the reverse";
    case Violation::reserved_message_id:
      return "SMB2 request with the MessageId reserved for notifications";
    case Violation::signed_rdma_channel_response:
      return "signed response to a READ that asked for RDMA placement";
    case Violation::rdma_channel_over_tcp:
      return "READ or WRITE that asks for RDMA placement on a connection without RDMA";
    case Violation::too_long:
      return "SMB2 message of 16 MiB or more, longer than the length field of SMB2 over TCP allows";
    case Violation::response_unmatched:
      return "response with a MessageId that no request in flight has";
    case Violation::response_too_early:
      return "response to a request that was not sent yet";
    case Violation::response_wrong_command:
      return "response whose Command is not that of its request";
    case Violation::response_bad_pending:
      return "STATUS_PENDING response, or the one that ends it, without the right AsyncId";
    case Violation::response_bad_notification:
      return "unsolicited message (MessageId -1) with a command that needs a request";
    case Violation::response_bad_dialect:
      return "NEGOTIATE response with a dialect that was not offered, or a second one";
    case Violation::bad_stream_word:
      return "invalid framing: neither an SMB2 message nor a NetBIOS keepalive follows";
    case Violation::marked_resume_key:
      return "COPYCHUNK with a resume key that bears the mark of this daemon's own";
    case Violation::response_old_sequence:
      return "a READ by memory shared with smbd was refused for a ChannelSequence that another channel has "
             "raised";
    case Violation::response_bad_echo:
      return "an ECHO that stands for requests answered here was refused";
  }
  return "unknown violation";
}

ProtocolId protocol_id(std::span<const std::byte> bytes) {
  if (bytes.size() < 4) return ProtocolId::unknown;
  // 'SMB' after the byte that tells the kinds apart, as one little-endian word.
  const uint32_t word = wire::load32(bytes, 0);
  if ((word >> 8) != 0x424D53) return ProtocolId::unknown;
  switch (word & 0xFF) {
    case 0xFE:
      return ProtocolId::smb2;
    case 0xFD:
      return ProtocolId::encrypted;
    case 0xFC:
      return ProtocolId::compressed;
    case 0xFF:
      return ProtocolId::smb1;
    default:
      return ProtocolId::unknown;
  }
}

std::expected<Header, Violation> parse_header(std::span<const std::byte> bytes) {
  switch (protocol_id(bytes)) {
    case ProtocolId::smb2:
      break;
    case ProtocolId::smb1:
      return std::unexpected(Violation::smb1);
    default:
      return std::unexpected(bytes.size() < 4 ? Violation::too_short : Violation::not_smb2);
  }
  if (bytes.size() < kHeaderBytes) return std::unexpected(Violation::too_short);
  if (wire::load16(bytes, header_at::kStructureSize) != kHeaderBytes)
    return std::unexpected(Violation::bad_header_size);
  return Header{
      .credit_charge = wire::load16(bytes, header_at::kCreditCharge),
      .status = wire::load32(bytes, header_at::kStatus),
      .command = static_cast<Command>(wire::load16(bytes, header_at::kCommand)),
      .credits = wire::load16(bytes, header_at::kCredits),
      .flags = wire::load32(bytes, header_at::kFlags),
      .next_command = wire::load32(bytes, header_at::kNextCommand),
      .message_id = wire::load64(bytes, header_at::kMessageId),
      .async_id = wire::load64(bytes, header_at::kAsyncId),
      .session_id = wire::load64(bytes, header_at::kSessionId),
  };
}

void make_async(std::span<std::byte> header, uint64_t async_id) {
  constexpr uint32_t kAsyncCommand = 0x2;
  wire::store(header, header_at::kFlags, wire::load32(header, header_at::kFlags) | kAsyncCommand);
  wire::store(header, header_at::kAsyncId, async_id);
}

bool valid_next_command(uint32_t next_command, uint64_t left) {
  if (next_command == 0) return true;
  return next_command % 8 == 0 && next_command >= kHeaderBytes && next_command <= left &&
         left - next_command >= kHeaderBytes;
}

std::expected<Element, Violation> parse_element(std::span<const std::byte> rest) {
  const auto header = parse_header(rest);
  if (!header) return std::unexpected(header.error());
  if (!valid_next_command(header->next_command, rest.size()))
    return std::unexpected(Violation::bad_next_command);
  return Element{*header, header->next_command != 0 ? header->next_command : rest.size()};
}

std::expected<NegotiateRequest, Violation> parse_negotiate_request(std::span<const std::byte> pdu) {
  const auto header = parse_header(pdu);
  if (!header) return std::unexpected(header.error());
  if (header->response()) return std::unexpected(Violation::wrong_direction);
  if (header->command != Command::negotiate || pdu.size() < negotiate_at::kDialects)
    return std::unexpected(Violation::bad_body);
  if (wire::load16(pdu, kBodyAt) != negotiate_at::kRequestStructureSize)
    return std::unexpected(Violation::bad_structure_size);
  const uint64_t count = wire::load16(pdu, negotiate_at::kDialectCount);
  if (count * 2 > pdu.size() - negotiate_at::kDialects) return std::unexpected(Violation::bad_body);

  NegotiateRequest facts;
  std::ranges::copy(pdu.subspan(negotiate_at::kClientGuid, facts.client_guid.bytes.size()),
                    facts.client_guid.bytes.begin());
  for (size_t i = 0; i < count; ++i) {
    const uint16_t dialect = wire::load16(pdu, negotiate_at::kDialects + 2 * i);
    // Wildcards, drafts and the future say nothing about what smbd will choose.
    const auto known = std::ranges::find(NegotiateRequest::kDialects, dialect);
    if (known == NegotiateRequest::kDialects.end()) continue;
    facts.highest_dialect = std::max(facts.highest_dialect, dialect);
    facts.offered |= static_cast<uint8_t>(1u << (known - NegotiateRequest::kDialects.begin()));
  }
  return facts;
}

std::expected<StreamWord, Violation> parse_stream_word(std::span<const std::byte, kNbtBytes> word) {
  const uint32_t length = std::to_integer<uint32_t>(word[1]) << 16 | std::to_integer<uint32_t>(word[2]) << 8 |
                          std::to_integer<uint32_t>(word[3]);
  switch (std::to_integer<int>(word[0])) {
    case 0x00:
      return StreamWord{.length = length};
    case 0x83:
      return std::unexpected(Violation::nbt_refusal);
    case 0x85:
      if (length == 0) return StreamWord{.keepalive = true};
      break;
    default:
      break;
  }
  return std::unexpected(Violation::bad_stream_word);
}

std::expected<uint32_t, Violation> parse_nbt(std::span<const std::byte, kNbtBytes> word) {
  if (word[0] != std::byte{0}) return std::unexpected(Violation::nbt_refusal);
  return std::to_integer<uint32_t>(word[1]) << 16 | std::to_integer<uint32_t>(word[2]) << 8 |
         std::to_integer<uint32_t>(word[3]);
}

std::array<std::byte, kNbtBytes> encode_nbt(uint32_t length) {
  return {std::byte{0}, static_cast<std::byte>(length >> 16 & 0xFF),
          static_cast<std::byte>(length >> 8 & 0xFF), static_cast<std::byte>(length & 0xFF)};
}

}  // namespace smbdirect::protocol::smb2
