// SPDX-License-Identifier: MIT
// MPA frames (RFC 5044, RFC 6581): the request and reply that open a connection, and the geometry of the
// FPDUs that follow. Pure: no socket, no state.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <optional>
#include <span>

namespace smbdirect::workers::fabric::iwarp {

// --- Set-up frames (RFC 5044 7.1.1, RFC 6581 9) ---

inline constexpr size_t kMpaHeaderSize = 20;
inline constexpr size_t kMaxPrivateData = 512;  // RFC 5044 7.1.1
inline constexpr size_t kMaxMpaFrame = kMpaHeaderSize + kMaxPrivateData;
inline constexpr size_t kEnhancedSize = 4;
inline constexpr size_t kLegacySize = 8;

enum class MpaFrameKind : uint8_t { request, reply };

/// RFC 6581 9.1: what opens the private data of a revision 2 frame with the S flag.
struct EnhancedData {
  uint16_t ird{};       // 14 bits
  bool peer_to_peer{};  // A: the initiator will send a ready-to-receive (RTR) message first
  bool rtr_empty{};     // B: that message may be a zero-length FPDU (Send)
  uint16_t ord{};       // 14 bits
  bool rtr_write{};     // C: ... a zero-length RDMA Write
  bool rtr_read{};      // D: ... a zero-length RDMA Read Request
};
/// An IRD or ORD of all ones says that the sender does not negotiate it here.
inline constexpr uint16_t kDepthNotNegotiated = 0x3fff;

/// SMB Direct's own exchange of read depths over iWARP (MS-SMBD 6.1), big-endian.
struct LegacyDepths {
  uint32_t ird{};
  uint32_t ord{};
};

/// The fixed 20 bytes of a set-up frame.
struct MpaHeader {
  MpaFrameKind kind{};
  bool markers{};   // M: the sender wants markers in what it receives
  bool crc{};       // C
  bool reject{};    // R
  bool enhanced{};  // S (revision 2)
  uint8_t revision{};
  uint16_t private_data_length{};
};

enum class MpaError : uint8_t {
  truncated,
  wrong_key,          // neither the request's nor the reply's key
  private_data_long,  // PD_Length above 512
  enhanced_missing,   // S is set and the private data has no room for the enhanced data
};

/// The fixed part; reserved bits are ignored (RFC 5044 7.1.1).
std::expected<MpaHeader, MpaError> parse_mpa_header(std::span<const std::byte> bytes);

/// What the private data says. `enhanced` is the header's S flag.
struct MpaPrivateData {
  std::optional<EnhancedData> enhanced;
  std::optional<LegacyDepths> legacy;  // exactly eight bytes of the upper layer's
};
std::expected<MpaPrivateData, MpaError> parse_mpa_private_data(bool enhanced,
                                                               std::span<const std::byte> bytes);

/// A whole frame, ready to send.
struct MpaFrame {
  std::array<std::byte, kMpaHeaderSize + kEnhancedSize + kLegacySize> bytes{};
  size_t size{};
  [[nodiscard]] std::span<const std::byte> span() const { return std::span(bytes).first(size); }
};
/// header.private_data_length and header.enhanced follow from the arguments.
MpaFrame encode_mpa_frame(MpaHeader header, const MpaPrivateData& data);

// --- FPDUs (RFC 5044 4.1): length, ULPDU, pad to four, CRC; no markers ---

inline constexpr size_t kFpduLengthSize = 2;
inline constexpr size_t kFpduCrcSize = 4;

/// Pad bytes after a ULPDU of this length.
constexpr size_t fpdu_pad(size_t ulpdu_length) { return (4 - (kFpduLengthSize + ulpdu_length) % 4) % 4; }
/// Pad and CRC.
constexpr size_t fpdu_trailer(size_t ulpdu_length) { return fpdu_pad(ulpdu_length) + kFpduCrcSize; }

/// The largest ULPDU whose FPDU fits a TCP segment of this size (RFC 5044 4.2 MULPDU), never below 128 and
/// such that a full FPDU needs no pad.
constexpr uint16_t max_ulpdu(uint32_t segment_size) {
  constexpr uint32_t kSmallest = 128;                      // RFC 5044 4.2
  constexpr uint32_t kLargestFpdu = 65536 + kFpduCrcSize;  // the length field has 16 bits
  uint32_t segment = segment_size < kSmallest + 12 ? kSmallest + 12 : segment_size;
  if (segment > kLargestFpdu) segment = kLargestFpdu;
  return static_cast<uint16_t>((segment - kFpduCrcSize) / 4 * 4 - kFpduLengthSize);
}

}  // namespace smbdirect::workers::fabric::iwarp
