// SPDX-License-Identifier: MIT
// The SMB Direct messages on the wire (MS-SMBD 2.2; every integer little-endian): bytes to values and
// back. Pure functions, usable in any process; parsing never reads outside the span and never trusts a
// length in it. Rules that need a connection's state or limits are in negotiation.h and reassembly.h.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <span>

#include "protocol/smbdirect/fault.h"

namespace smbdirect::protocol::smb_direct {

/// MS-SMBD 2.2.1, the first message on a connection, from the active side.
struct NegotiateRequest {
  static constexpr size_t kSize = 20;
  uint16_t min_version{};
  uint16_t max_version{};
  uint16_t credits_requested{};
  uint32_t preferred_send_size{};
  uint32_t max_receive_size{};
  uint32_t max_fragmented_size{};
};

/// MS-SMBD 2.2.2, the passive side's answer.
struct NegotiateResponse {
  static constexpr size_t kSize = 32;
  uint16_t min_version{};
  uint16_t max_version{};
  uint16_t negotiated_version{};
  uint16_t credits_requested{};
  uint16_t credits_granted{};
  uint32_t status{};  // NTSTATUS
  uint32_t max_read_write_size{};
  uint32_t preferred_send_size{};
  uint32_t max_receive_size{};
  uint32_t max_fragmented_size{};
};

/// MS-SMBD 2.2.3, every later message. Without data it is exactly the header; with data the sender puts
/// it at kDataOffset.
struct DataTransfer {
  static constexpr size_t kHeaderSize = 20;
  static constexpr uint32_t kDataOffset = 24;
  static constexpr uint16_t kResponseRequested = 0x0001;  // SMB_DIRECT_RESPONSE_REQUESTED
  uint16_t credits_requested{};                           // total wanted, those already held included
  uint16_t credits_granted{};                             // additional
  uint16_t flags{};
  uint32_t remaining_data_length{};
  uint32_t data_offset{};  // from the start of the message
  uint32_t data_length{};
};

/// Bytes after the structure are ignored (a request may come in a 512-byte message).
/// Error: message_too_short.
[[nodiscard]] std::expected<NegotiateRequest, Fault> parse_negotiate_request(
    std::span<const std::byte> message);
[[nodiscard]] std::expected<NegotiateResponse, Fault> parse_negotiate_response(
    std::span<const std::byte> message);
/// Holds what MS-SMBD 3.1.5.8 demands of a message by itself: at least 20 bytes, CreditsRequested >= 1,
/// DataOffset a multiple of 8, data inside the bytes received. Bytes after the data are ignored, and the
/// data may begin anywhere (also below 24).
/// Errors: message_too_short, credits_requested_zero, data_offset_misaligned, data_beyond_message.
[[nodiscard]] std::expected<DataTransfer, Fault> parse_data_transfer(std::span<const std::byte> message);

[[nodiscard]] std::array<std::byte, NegotiateRequest::kSize> encode(const NegotiateRequest& message);
[[nodiscard]] std::array<std::byte, NegotiateResponse::kSize> encode(const NegotiateResponse& message);
/// Header and the four bytes of padding before kDataOffset; a message without data is its first 20 bytes.
[[nodiscard]] std::array<std::byte, DataTransfer::kDataOffset> encode(const DataTransfer& message);

}  // namespace smbdirect::protocol::smb_direct
