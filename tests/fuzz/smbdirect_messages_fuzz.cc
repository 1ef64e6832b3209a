// SPDX-License-Identifier: MIT
// Any bytes through each parser of protocol/smbdirect/messages.h: what parses must encode back to the
// bytes it came from (reserved fields and padding aside), and data must lie inside the message.
#include <algorithm>
#include <cstdint>
#include <cstdlib>

#include "protocol/smbdirect/messages.h"
#include "protocol/smbdirect/negotiation.h"

namespace smb_direct = smbdirect::protocol::smb_direct;

namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

template <size_t N>
void same_but(const std::array<std::byte, N>& encoded, std::span<const std::byte> message, size_t reserved) {
  for (size_t i = 0; i < N; ++i) {
    if (i == reserved || i == reserved + 1) continue;
    require(encoded[i] == message[i]);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto message = std::as_bytes(std::span(data, size));
  if (const auto request = smb_direct::parse_negotiate_request(message)) {
    same_but(smb_direct::encode(*request), message, 4);
    if (const auto agreed = smb_direct::check_request(*request, {})) {
      require(agreed->max_send_size >= 128 && agreed->max_send_size <= request->max_receive_size);
      require(agreed->max_receive_size >= 128 && agreed->max_receive_size <= 8192);
    }
  }
  if (const auto response = smb_direct::parse_negotiate_response(message)) {
    same_but(smb_direct::encode(*response), message, 6);
    if (const auto agreed = smb_direct::check_response(*response, {})) {
      require(agreed->max_send_size >= 128 && agreed->max_send_size <= response->max_receive_size);
      require(agreed->max_receive_size >= 128 && agreed->max_receive_size <= 8192);
    }
  }
  if (const auto header = smb_direct::parse_data_transfer(message)) {
    const auto encoded = smb_direct::encode(*header);
    std::array<std::byte, smb_direct::DataTransfer::kHeaderSize> start{};
    std::copy_n(encoded.begin(), start.size(), start.begin());
    same_but(start, message, 6);
    require(header->data_offset % 8 == 0 && header->credits_requested > 0);
    uint8_t sum = 0;
    for (const std::byte byte : message.subspan(header->data_offset, header->data_length)) {
      sum = static_cast<uint8_t>(sum + std::to_integer<uint8_t>(byte));
    }
    static volatile uint8_t sink;
    sink = sum;
    (void)sink;
  }
  return 0;
}
