// SPDX-License-Identifier: MIT
#include "protocol/smbdirect/negotiation.h"

#include <algorithm>

namespace smbdirect::protocol::smb_direct {

Limits normalized(Limits limits) {
  // MS-SMBD 3.1.5.9 makes a sender with one credit left post a receive beyond those it granted.
  limits.receive_credit_max = std::max<uint16_t>(limits.receive_credit_max, 2);
  limits.receive_credit_initial =
      std::clamp<uint16_t>(limits.receive_credit_initial, 1, limits.receive_credit_max);
  limits.send_credit_target = std::max<uint16_t>(limits.send_credit_target, 1);
  limits.max_send_size = std::max(limits.max_send_size, kMinReceiveSize);
  limits.max_receive_size = std::max(limits.max_receive_size, kMinReceiveSize);
  limits.max_fragmented_size = std::max(limits.max_fragmented_size, kMinFragmentedSize);
  limits.idle_timeout = std::max<Millis>(limits.idle_timeout, 1);
  return limits;
}

NegotiateRequest make_request(const Limits& limits) {
  return {
      .min_version = kVersion1,
      .max_version = kVersion1,
      .credits_requested = limits.send_credit_target,
      .preferred_send_size = limits.max_send_size,
      .max_receive_size = limits.max_receive_size,
      .max_fragmented_size = limits.max_fragmented_size,
  };
}

std::expected<Agreed, Fault> check_request(const NegotiateRequest& request, const Limits& limits) {
  // The text asks for a range that includes 0x0100; Windows servers and the conformance cases want both
  // ends to be it, and every real client sends that.
  if (request.min_version != kVersion1 || request.max_version != kVersion1) {
    return std::unexpected(Fault::version_unsupported);
  }
  if (request.credits_requested == 0) return std::unexpected(Fault::credits_requested_zero);
  if (request.max_receive_size < kMinReceiveSize) return std::unexpected(Fault::max_receive_size_too_small);
  if (request.max_fragmented_size < kMinFragmentedSize) {
    return std::unexpected(Fault::max_fragmented_size_too_small);
  }
  return Agreed{
      .max_send_size = std::min(limits.max_send_size, request.max_receive_size),
      .max_receive_size =
          std::max(kMinReceiveSize, std::min(limits.max_receive_size, request.preferred_send_size)),
      .max_fragmented_send_size = request.max_fragmented_size,
      .max_read_write_size = limits.max_read_write_size,
  };
}

NegotiateResponse make_response(const Agreed& agreed, const Limits& limits, uint16_t credits_granted) {
  return {
      .min_version = kVersion1,
      .max_version = kVersion1,
      .negotiated_version = kVersion1,
      .credits_requested = limits.send_credit_target,
      .credits_granted = credits_granted,
      .status = kStatusSuccess,
      .max_read_write_size = limits.max_read_write_size,
      .preferred_send_size = agreed.max_send_size,
      .max_receive_size = agreed.max_receive_size,
      .max_fragmented_size = limits.max_fragmented_size,
  };
}

NegotiateResponse make_refusal(uint32_t status) {
  return {.min_version = kVersion1, .max_version = kVersion1, .status = status};
}

std::expected<Agreed, Fault> check_response(const NegotiateResponse& response, const Limits& limits) {
  // The status first: a refusal leaves everything else 0.
  if (response.status != kStatusSuccess) return std::unexpected(Fault::negotiate_refused);
  if (response.negotiated_version != kVersion1) return std::unexpected(Fault::version_unsupported);
  if (response.max_receive_size < kMinReceiveSize) return std::unexpected(Fault::max_receive_size_too_small);
  if (response.max_fragmented_size < kMinFragmentedSize) {
    return std::unexpected(Fault::max_fragmented_size_too_small);
  }
  if (response.credits_requested == 0) return std::unexpected(Fault::credits_requested_zero);
  if (response.credits_granted == 0 || response.preferred_send_size > limits.max_receive_size) {
    return std::unexpected(Fault::response_invalid);
  }
  return Agreed{
      .max_send_size = std::min(limits.max_send_size, response.max_receive_size),
      .max_receive_size =
          std::max(kMinReceiveSize, std::min(limits.max_receive_size, response.preferred_send_size)),
      .max_fragmented_send_size = response.max_fragmented_size,
      .max_read_write_size = std::min(limits.max_read_write_size, response.max_read_write_size),
  };
}

}  // namespace smbdirect::protocol::smb_direct
