// SPDX-License-Identifier: MIT
#include "workers/fabric/iwarp/mpa.h"

#include <algorithm>
#include <cstring>
#include <string_view>

#include "workers/fabric/iwarp/byte_order.h"

namespace smbdirect::workers::fabric::iwarp {
namespace {

constexpr std::string_view kRequestKey = "MPA ID Req Frame";
constexpr std::string_view kReplyKey = "MPA ID Rep Frame";
constexpr size_t kKeySize = 16;
static_assert(kRequestKey.size() == kKeySize && kReplyKey.size() == kKeySize);

constexpr std::byte kMarkers{0x80}, kCrc{0x40}, kReject{0x20}, kEnhanced{0x10};
constexpr uint16_t kHighFlag = 0x8000, kLowFlag = 0x4000, kDepthMask = 0x3fff;

bool has(std::byte flags, std::byte flag) { return (flags & flag) != std::byte{}; }

}  // namespace

std::expected<MpaHeader, MpaError> parse_mpa_header(std::span<const std::byte> bytes) {
  if (bytes.size() < kMpaHeaderSize) return std::unexpected(MpaError::truncated);
  MpaHeader header;
  if (std::memcmp(bytes.data(), kRequestKey.data(), kKeySize) == 0) {
    header.kind = MpaFrameKind::request;
  } else if (std::memcmp(bytes.data(), kReplyKey.data(), kKeySize) == 0) {
    header.kind = MpaFrameKind::reply;
  } else {
    return std::unexpected(MpaError::wrong_key);
  }
  const std::byte flags = bytes[kKeySize];
  header.markers = has(flags, kMarkers);
  header.crc = has(flags, kCrc);
  header.reject = has(flags, kReject);
  header.revision = std::to_integer<uint8_t>(bytes[kKeySize + 1]);
  // In revision 1 this bit is reserved and not looked at.
  header.enhanced = header.revision >= 2 && has(flags, kEnhanced);
  header.private_data_length = get_be16(bytes.data() + kKeySize + 2);
  if (header.private_data_length > kMaxPrivateData) return std::unexpected(MpaError::private_data_long);
  return header;
}

std::expected<MpaPrivateData, MpaError> parse_mpa_private_data(bool enhanced,
                                                               std::span<const std::byte> bytes) {
  MpaPrivateData data;
  if (enhanced) {
    if (bytes.size() < kEnhancedSize) return std::unexpected(MpaError::enhanced_missing);
    const uint16_t first = get_be16(bytes.data());
    const uint16_t second = get_be16(bytes.data() + 2);
    data.enhanced = EnhancedData{.ird = static_cast<uint16_t>(first & kDepthMask),
                                 .peer_to_peer = (first & kHighFlag) != 0,
                                 .rtr_empty = (first & kLowFlag) != 0,
                                 .ord = static_cast<uint16_t>(second & kDepthMask),
                                 .rtr_write = (second & kHighFlag) != 0,
                                 .rtr_read = (second & kLowFlag) != 0};
    bytes = bytes.subspan(kEnhancedSize);
  }
  if (bytes.size() == kLegacySize) {
    data.legacy = LegacyDepths{.ird = get_be32(bytes.data()), .ord = get_be32(bytes.data() + 4)};
  }
  return data;
}

MpaFrame encode_mpa_frame(MpaHeader header, const MpaPrivateData& data) {
  MpaFrame frame;
  std::byte* at = frame.bytes.data();
  const auto key = header.kind == MpaFrameKind::request ? kRequestKey : kReplyKey;
  std::memcpy(at, key.data(), kKeySize);
  std::byte flags{};
  if (header.markers) flags |= kMarkers;
  if (header.crc) flags |= kCrc;
  if (header.reject) flags |= kReject;
  if (data.enhanced) flags |= kEnhanced;
  at[kKeySize] = flags;
  at[kKeySize + 1] = static_cast<std::byte>(header.revision);
  size_t size = kMpaHeaderSize;
  if (data.enhanced) {
    const EnhancedData& e = *data.enhanced;
    const auto first =
        std::min(e.ird, kDepthMask) | (e.peer_to_peer ? kHighFlag : 0) | (e.rtr_empty ? kLowFlag : 0);
    const auto second =
        std::min(e.ord, kDepthMask) | (e.rtr_write ? kHighFlag : 0) | (e.rtr_read ? kLowFlag : 0);
    put_be16(at + size, static_cast<uint16_t>(first));
    put_be16(at + size + 2, static_cast<uint16_t>(second));
    size += kEnhancedSize;
  }
  if (data.legacy) {
    put_be32(at + size, data.legacy->ird);
    put_be32(at + size + 4, data.legacy->ord);
    size += kLegacySize;
  }
  put_be16(at + kKeySize + 2, static_cast<uint16_t>(size - kMpaHeaderSize));
  frame.size = size;
  return frame;
}

}  // namespace smbdirect::workers::fabric::iwarp
