// SPDX-License-Identifier: MIT
#include "workers/fabric/verbs/private_data.h"

#include <algorithm>

namespace smbdirect::workers::fabric::verbs {

namespace {

uint32_t number_at(std::span<const std::byte> bytes) {
  uint32_t value = 0;
  for (const std::byte byte : bytes.first(4)) value = value << 8U | std::to_integer<uint32_t>(byte);
  // IRD and ORD have 14 bits at most (RFC 6581 section 4.1): this one was written little-endian.
  if (value != 0 && (value & 0xffffffU) == 0) value >>= 24U;
  return value;
}

void put(std::span<std::byte> bytes, uint32_t value) {
  for (std::byte& byte : bytes.first(4)) {
    byte = static_cast<std::byte>(value >> 24U);
    value <<= 8U;
  }
}

uint8_t tighter(uint8_t limit, uint32_t said) {
  const auto capped = static_cast<uint8_t>(std::min<uint32_t>(said, UINT8_MAX));
  return limit == 0 ? capped : std::min(limit, capped);
}

}  // namespace

std::optional<IrdOrd> parse_ird_ord(std::span<const std::byte> private_data, bool iwarp) {
  if (!iwarp || private_data.size() != 8) return std::nullopt;
  return IrdOrd{.ird = number_at(private_data), .ord = number_at(private_data.subspan(4))};
}

std::array<std::byte, 8> ird_ord_bytes(const IrdOrd& values) {
  std::array<std::byte, 8> bytes{};
  put(bytes, values.ird);
  put(std::span(bytes).subspan(4), values.ord);
  return bytes;
}

bool acceptable(const IrdOrd& client) { return client.ird != 0 && client.ord != 0; }

PeerLimits tightened(PeerLimits limits, const IrdOrd& client) {
  return {.initiator_depth = tighter(limits.initiator_depth, client.ird),
          .responder_resources = tighter(limits.responder_resources, client.ord)};
}

IrdOrd answer_to(const IrdOrd& client, const OurLimits& ours) {
  return {.ird = std::min<uint32_t>(ours.initiator_depth, client.ird),
          .ord = std::min<uint32_t>(ours.responder_resources, client.ord)};
}

OurLimits at_least_one(OurLimits limits) {
  return {.initiator_depth = std::max<uint8_t>(1, limits.initiator_depth),
          .responder_resources = std::max<uint8_t>(1, limits.responder_resources)};
}

}  // namespace smbdirect::workers::fabric::verbs
