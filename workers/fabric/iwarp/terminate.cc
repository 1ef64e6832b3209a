// SPDX-License-Identifier: MIT
#include "workers/fabric/iwarp/terminate.h"

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "workers/fabric/iwarp/byte_order.h"

namespace smbdirect::workers::fabric::iwarp {
namespace {

constexpr unsigned kSegmentLengthValid = 0x80, kDdpHeaderIncluded = 0x40, kRdmapHeaderIncluded = 0x20;

struct Name {
  TerminateCode code;
  std::string_view text;
};

constexpr Name kNames[] = {
    {terminate::kLocalCatastrophic, "local catastrophic error"},
    {terminate::kReadInvalidStag, "invalid STag"},
    {terminate::kReadBounds, "base or bounds violation"},
    {terminate::kAccessRights, "access rights violation"},
    {terminate::kReadStagNotAssociated, "STag not associated with the stream"},
    {terminate::kReadOffsetWrap, "tagged offset wrap"},
    {terminate::kRdmapVersion, "invalid RDMAP version"},
    {terminate::kUnexpectedOpcode, "unexpected opcode"},
    {terminate::kStreamCatastrophic, "catastrophic error, localized to the stream"},
    {terminate::kGlobalCatastrophic, "catastrophic error, global"},
    {terminate::kCannotInvalidate, "STag cannot be invalidated"},
    {terminate::kUnspecified, "unspecified error"},
    {terminate::kDdpLocalCatastrophic, "local catastrophic error"},
    {terminate::kTaggedInvalidStag, "invalid STag"},
    {terminate::kTaggedBounds, "base or bounds violation"},
    {terminate::kTaggedStagNotAssociated, "STag not associated with the stream"},
    {terminate::kTaggedOffsetWrap, "tagged offset wrap"},
    {terminate::kTaggedVersion, "invalid DDP version in a tagged segment"},
    {terminate::kInvalidQueue, "invalid queue number"},
    {terminate::kNoBuffer, "no buffer available"},
    {terminate::kMsnRange, "message sequence number out of range"},
    {terminate::kInvalidMo, "invalid message offset"},
    {terminate::kMessageTooLong, "message too long for the buffer"},
    {terminate::kUntaggedVersion, "invalid DDP version in an untagged segment"},
    {terminate::kTcpLost, "TCP connection closed, terminated or lost"},
    {terminate::kCrc, "received CRC does not match"},
    {terminate::kFpduLength, "ULPDU length does not fit the FPDU"},
    {terminate::kInvalidSetupFrame, "invalid MPA request or reply"},
    {terminate::kMpaLocalCatastrophic, "local catastrophic error"},
    {terminate::kInsufficientIrd, "insufficient IRD resources"},
    {terminate::kNoMatchingRtr, "no matching RTR option"},
};

bool is_layer(TerminateCode code, TerminateLayer layer) { return code.layer == static_cast<uint8_t>(layer); }

bool is_assigned(TerminateCode code) {
  return std::ranges::find(kNames, code, &Name::code) != std::end(kNames);
}

}  // namespace

std::string_view terminate_name(TerminateCode code) {
  const auto* found = std::ranges::find(kNames, code, &Name::code);
  return found == std::end(kNames) ? "unassigned code" : found->text;
}

std::string terminate_text(TerminateCode code) {
  static constexpr std::string_view kLayers[] = {"RDMAP", "DDP", "MPA"};
  char numbers[32];
  std::snprintf(numbers, sizeof numbers, " (%u/%u/0x%02x", code.layer, code.type, code.code);
  // Linux's siw has the two in each other's place (iwarp.h, struct iwarp_terminate).
  const TerminateCode swapped{code.type, code.layer, code.code};
  const bool is_swapped = !is_assigned(code) && is_assigned(swapped);
  if (is_swapped) code = swapped;
  std::string text(code.layer < std::size(kLayers) ? kLayers[code.layer] : "unknown layer");
  text.append(" ").append(terminate_name(code)).append(numbers);
  return text.append(is_swapped ? ", layer and type swapped as siw does)" : ")");
}

TerminatePayload encode_terminate(TerminateCode code, std::span<const std::byte> header,
                                  uint16_t segment_length) {
  TerminatePayload payload;
  // RFC 5040 4.8: neither an MPA nor a local catastrophic error has an offending segment to show, and of a
  // segment of another version nobody knows where its header ends. The RDMAP header goes along with a
  // protection error only, and only Read Requests have one.
  const bool version = code == terminate::kTaggedVersion || code == terminate::kUntaggedVersion ||
                       code == terminate::kRdmapVersion;
  const bool show = !is_layer(code, TerminateLayer::mpa) && code.type != 0 && !version && !header.empty() &&
                    header.size() >= ddp_header_size(header[0]);
  const bool protection = is_layer(code, TerminateLayer::rdmap) && code.type == 1;
  const bool rdmap = show && protection && header.size() == kMaxSegmentHeader;
  std::byte* at = payload.bytes.data();
  at[0] = static_cast<std::byte>(code.layer << 4 | (code.type & 0x0f));
  at[1] = static_cast<std::byte>(code.code);
  at[2] = static_cast<std::byte>((show ? kSegmentLengthValid | kDdpHeaderIncluded : 0) |
                                 (rdmap ? kRdmapHeaderIncluded : 0));
  payload.size = 4;
  if (show) {
    put_be16(at + 4, segment_length);
    const size_t echoed = rdmap ? kMaxSegmentHeader : ddp_header_size(header[0]);
    std::memcpy(at + 6, header.data(), echoed);
    payload.size = 6 + echoed;
  }
  return payload;
}

std::expected<TerminateMessage, DdpError> parse_terminate(std::span<const std::byte> bytes) {
  if (bytes.size() < 4) return std::unexpected(DdpError::truncated);
  const auto first = std::to_integer<unsigned>(bytes[0]);
  const auto flags = std::to_integer<unsigned>(bytes[2]);
  TerminateMessage message;
  message.code = {static_cast<uint8_t>(first >> 4), static_cast<uint8_t>(first & 0x0f),
                  std::to_integer<uint8_t>(bytes[1])};
  bytes = bytes.subspan(4);
  if ((flags & kSegmentLengthValid) == 0 || bytes.size() < 2) return message;
  message.segment_length = get_be16(bytes.data());
  bytes = bytes.subspan(2);
  if ((flags & kDdpHeaderIncluded) == 0) return message;
  const auto header = parse_ddp_header(bytes);
  if (!header) return message;
  message.header = *header;
  bytes = bytes.subspan(header->size());
  if ((flags & kRdmapHeaderIncluded) == 0) return message;
  const auto request = parse_read_request(bytes);
  if (request) message.read_request = *request;
  return message;
}

}  // namespace smbdirect::workers::fabric::iwarp
