// SPDX-License-Identifier: MIT
#include "protocol/smbdirect/messages.h"

#include <concepts>

namespace smbdirect::protocol::smb_direct {
namespace {

template <std::unsigned_integral T>
T load(std::span<const std::byte> bytes, size_t at) {
  T value = 0;
  for (size_t i = 0; i < sizeof(T); ++i) {
    value = static_cast<T>(value | static_cast<T>(std::to_integer<uint64_t>(bytes[at + i]) << (8 * i)));
  }
  return value;
}

template <std::unsigned_integral T>
void store(std::span<std::byte> bytes, size_t at, T value) {
  for (size_t i = 0; i < sizeof(T); ++i) {
    bytes[at + i] = static_cast<std::byte>((static_cast<uint64_t>(value) >> (8 * i)) & 0xFF);
  }
}

}  // namespace

std::expected<NegotiateRequest, Fault> parse_negotiate_request(std::span<const std::byte> message) {
  if (message.size() < NegotiateRequest::kSize) return std::unexpected(Fault::message_too_short);
  return NegotiateRequest{
      .min_version = load<uint16_t>(message, 0),
      .max_version = load<uint16_t>(message, 2),
      .credits_requested = load<uint16_t>(message, 6),
      .preferred_send_size = load<uint32_t>(message, 8),
      .max_receive_size = load<uint32_t>(message, 12),
      .max_fragmented_size = load<uint32_t>(message, 16),
  };
}

std::expected<NegotiateResponse, Fault> parse_negotiate_response(std::span<const std::byte> message) {
  if (message.size() < NegotiateResponse::kSize) return std::unexpected(Fault::message_too_short);
  return NegotiateResponse{
      .min_version = load<uint16_t>(message, 0),
      .max_version = load<uint16_t>(message, 2),
      .negotiated_version = load<uint16_t>(message, 4),
      .credits_requested = load<uint16_t>(message, 8),
      .credits_granted = load<uint16_t>(message, 10),
      .status = load<uint32_t>(message, 12),
      .max_read_write_size = load<uint32_t>(message, 16),
      .preferred_send_size = load<uint32_t>(message, 20),
      .max_receive_size = load<uint32_t>(message, 24),
      .max_fragmented_size = load<uint32_t>(message, 28),
  };
}

std::expected<DataTransfer, Fault> parse_data_transfer(std::span<const std::byte> message) {
  if (message.size() < DataTransfer::kHeaderSize) return std::unexpected(Fault::message_too_short);
  const DataTransfer parsed{
      .credits_requested = load<uint16_t>(message, 0),
      .credits_granted = load<uint16_t>(message, 2),
      .flags = load<uint16_t>(message, 4),
      .remaining_data_length = load<uint32_t>(message, 8),
      .data_offset = load<uint32_t>(message, 12),
      .data_length = load<uint32_t>(message, 16),
  };
  if (parsed.credits_requested == 0) return std::unexpected(Fault::credits_requested_zero);
  if (parsed.data_offset % 8 != 0) return std::unexpected(Fault::data_offset_misaligned);
  if (uint64_t{parsed.data_offset} + parsed.data_length > message.size()) {
    return std::unexpected(Fault::data_beyond_message);
  }
  return parsed;
}

std::array<std::byte, NegotiateRequest::kSize> encode(const NegotiateRequest& message) {
  std::array<std::byte, NegotiateRequest::kSize> bytes{};  // Reserved at 4 stays 0
  store(bytes, 0, message.min_version);
  store(bytes, 2, message.max_version);
  store(bytes, 6, message.credits_requested);
  store(bytes, 8, message.preferred_send_size);
  store(bytes, 12, message.max_receive_size);
  store(bytes, 16, message.max_fragmented_size);
  return bytes;
}

std::array<std::byte, NegotiateResponse::kSize> encode(const NegotiateResponse& message) {
  std::array<std::byte, NegotiateResponse::kSize> bytes{};  // Reserved at 6 stays 0
  store(bytes, 0, message.min_version);
  store(bytes, 2, message.max_version);
  store(bytes, 4, message.negotiated_version);
  store(bytes, 8, message.credits_requested);
  store(bytes, 10, message.credits_granted);
  store(bytes, 12, message.status);
  store(bytes, 16, message.max_read_write_size);
  store(bytes, 20, message.preferred_send_size);
  store(bytes, 24, message.max_receive_size);
  store(bytes, 28, message.max_fragmented_size);
  return bytes;
}

std::array<std::byte, DataTransfer::kDataOffset> encode(const DataTransfer& message) {
  std::array<std::byte, DataTransfer::kDataOffset> bytes{};  // Reserved at 6 and the padding stay 0
  store(bytes, 0, message.credits_requested);
  store(bytes, 2, message.credits_granted);
  store(bytes, 4, message.flags);
  store(bytes, 8, message.remaining_data_length);
  store(bytes, 12, message.data_offset);
  store(bytes, 16, message.data_length);
  return bytes;
}

}  // namespace smbdirect::protocol::smb_direct
