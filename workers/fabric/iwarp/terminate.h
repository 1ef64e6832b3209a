// SPDX-License-Identifier: MIT
// The Terminate Message (RFC 5040 4.8) and its vocabulary: RFC 5040 (RDMAP), RFC 5041 (DDP), RFC 5044 and
// RFC 6581 (MPA), as IANA's RDDP registry lists it. Pure.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "workers/fabric/iwarp/ddp.h"

namespace smbdirect::workers::fabric::iwarp {

enum class TerminateLayer : uint8_t { rdmap = 0, ddp = 1, mpa = 2 };

struct TerminateCode {
  uint8_t layer{};  // four bits
  uint8_t type{};   // four bits
  uint8_t code{};
  bool operator==(const TerminateCode&) const = default;
};

namespace terminate {
inline constexpr TerminateCode kLocalCatastrophic{0, 0, 0x00};
inline constexpr TerminateCode kReadInvalidStag{0, 1, 0x00};
inline constexpr TerminateCode kReadBounds{0, 1, 0x01};
inline constexpr TerminateCode kAccessRights{0, 1, 0x02};
inline constexpr TerminateCode kReadStagNotAssociated{0, 1, 0x03};
inline constexpr TerminateCode kReadOffsetWrap{0, 1, 0x04};
inline constexpr TerminateCode kRdmapVersion{0, 2, 0x05};
inline constexpr TerminateCode kUnexpectedOpcode{0, 2, 0x06};
inline constexpr TerminateCode kStreamCatastrophic{0, 2, 0x07};
inline constexpr TerminateCode kGlobalCatastrophic{0, 2, 0x08};
inline constexpr TerminateCode kCannotInvalidate{0, 2, 0x09};
inline constexpr TerminateCode kUnspecified{0, 2, 0xff};
inline constexpr TerminateCode kDdpLocalCatastrophic{1, 0, 0x00};
inline constexpr TerminateCode kTaggedInvalidStag{1, 1, 0x00};
inline constexpr TerminateCode kTaggedBounds{1, 1, 0x01};
inline constexpr TerminateCode kTaggedStagNotAssociated{1, 1, 0x02};
inline constexpr TerminateCode kTaggedOffsetWrap{1, 1, 0x03};
inline constexpr TerminateCode kTaggedVersion{1, 1, 0x04};
inline constexpr TerminateCode kInvalidQueue{1, 2, 0x01};
inline constexpr TerminateCode kNoBuffer{1, 2, 0x02};
inline constexpr TerminateCode kMsnRange{1, 2, 0x03};
inline constexpr TerminateCode kInvalidMo{1, 2, 0x04};
inline constexpr TerminateCode kMessageTooLong{1, 2, 0x05};
inline constexpr TerminateCode kUntaggedVersion{1, 2, 0x06};
inline constexpr TerminateCode kTcpLost{2, 0, 0x01};
inline constexpr TerminateCode kCrc{2, 0, 0x02};
inline constexpr TerminateCode kFpduLength{2, 0, 0x03};
inline constexpr TerminateCode kInvalidSetupFrame{2, 0, 0x04};
inline constexpr TerminateCode kMpaLocalCatastrophic{2, 0, 0x05};
inline constexpr TerminateCode kInsufficientIrd{2, 0, 0x06};
inline constexpr TerminateCode kNoMatchingRtr{2, 0, 0x07};
}  // namespace terminate

/// The registry's name for a code, or "unassigned code".
std::string_view terminate_name(TerminateCode code);
/// "DDP no buffer available (1/2/0x02)", for the log. What has no meaning as RFC 5040 packs it, but has one
/// with layer and type swapped, is called what siw means by it.
std::string terminate_text(TerminateCode code);

inline constexpr size_t kMaxTerminatePayload = 4 + 2 + kMaxSegmentHeader;

/// A Terminate's payload, after the untagged DDP header on queue 2.
struct TerminatePayload {
  std::array<std::byte, kMaxTerminatePayload> bytes{};
  size_t size{};
  [[nodiscard]] std::span<const std::byte> span() const { return std::span(bytes).first(size); }
};

/// header: the offending segment's DDP header and, for a Read Request, its RDMAP header; empty when there
/// is none. segment_length: that segment's ULPDU length. What of it goes along follows from the code.
TerminatePayload encode_terminate(TerminateCode code, std::span<const std::byte> header,
                                  uint16_t segment_length);

struct TerminateMessage {
  TerminateCode code;
  std::optional<uint16_t> segment_length;
  std::optional<DdpHeader> header;
  std::optional<ReadRequest> read_request;
};
/// Only the four control bytes are required; an echoed header that does not parse is left out.
std::expected<TerminateMessage, DdpError> parse_terminate(std::span<const std::byte> bytes);

}  // namespace smbdirect::workers::fabric::iwarp
