// SPDX-License-Identifier: MIT
// DDP segment headers (RFC 5041 4.1) with the RDMAP control byte and headers they carry (RFC 5040 4). Pure.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <span>

namespace smbdirect::workers::fabric::iwarp {

/// RFC 5040 4.1. Codes above terminate are other specifications' (RFC 7306) and not spoken here.
enum class RdmapOpcode : uint8_t {
  rdma_write = 0,
  read_request = 1,
  read_response = 2,
  send = 3,
  send_invalidate = 4,
  send_se = 5,
  send_se_invalidate = 6,
  terminate = 7,
};

inline constexpr size_t kTaggedHeaderSize = 14;    // RFC 5041 4.2
inline constexpr size_t kUntaggedHeaderSize = 18;  // RFC 5041 4.3
inline constexpr size_t kReadRequestSize = 28;     // RFC 5040 4.4
inline constexpr size_t kMaxSegmentHeader = kUntaggedHeaderSize + kReadRequestSize;

/// Untagged queues (RFC 5040 4.1, figure 4).
inline constexpr uint32_t kSendQueue = 0, kReadRequestQueue = 1, kTerminateQueue = 2;

struct DdpHeader {
  bool tagged{};
  bool last{};
  uint8_t opcode{};  // four bits; an RdmapOpcode when it is at most terminate
  // Tagged.
  uint32_t stag{};
  uint64_t offset{};
  // Untagged.
  uint32_t invalidate_stag{};
  uint32_t queue{};
  uint32_t msn{};
  uint32_t mo{};

  [[nodiscard]] size_t size() const { return tagged ? kTaggedHeaderSize : kUntaggedHeaderSize; }
};

enum class DdpError : uint8_t { truncated, ddp_version_tagged, ddp_version_untagged, rdmap_version };

/// Bytes of header a segment has, told by its first byte.
constexpr size_t ddp_header_size(std::byte first) {
  return (first & std::byte{0x80}) != std::byte{} ? kTaggedHeaderSize : kUntaggedHeaderSize;
}

std::expected<DdpHeader, DdpError> parse_ddp_header(std::span<const std::byte> bytes);
/// Writes header.size() bytes.
size_t encode_ddp_header(const DdpHeader& header, std::byte* at);

/// RFC 5040 4.4.
struct ReadRequest {
  uint32_t sink_stag{};
  uint64_t sink_offset{};
  uint32_t size{};
  uint32_t source_stag{};
  uint64_t source_offset{};
};

std::expected<ReadRequest, DdpError> parse_read_request(std::span<const std::byte> bytes);
/// Writes kReadRequestSize bytes.
void encode_read_request(const ReadRequest& request, std::byte* at);

}  // namespace smbdirect::workers::fabric::iwarp
