// SPDX-License-Identifier: MIT
#include "protocol/proxy/module_link.h"

#include <algorithm>
#include <optional>

namespace smbdirect::protocol::proxy {
namespace {

template <typename Int>
Int load(std::span<const std::byte> bytes, size_t at) {
  uint64_t value = 0;
  for (size_t i = 0; i < sizeof(Int); ++i) value |= std::to_integer<uint64_t>(bytes[at + i]) << (8 * i);
  return static_cast<Int>(value);
}

std::optional<LinkSaid> said_by_module(uint32_t type) {
  switch (type) {
    case SMBDIRECT_LINK_HELLO:
      return LinkSaid::hello;
    case SMBDIRECT_LINK_TREE:
      return LinkSaid::tree;
    case SMBDIRECT_LINK_TREE_REFUSED:
      return LinkSaid::tree_refused;
    case SMBDIRECT_LINK_TREE_GONE:
      return LinkSaid::tree_gone;
    case SMBDIRECT_LINK_AREA_ADDED:
      return LinkSaid::area_added;
    case SMBDIRECT_LINK_AREA_GONE:
      return LinkSaid::area_gone;
    case SMBDIRECT_LINK_DIRECT_NOT:
      return LinkSaid::direct_not;
    case SMBDIRECT_LINK_TABLE:
      return LinkSaid::table;
    case SMBDIRECT_LINK_GRANT:
      return LinkSaid::grant;
    case SMBDIRECT_LINK_RIGHTS:
      return LinkSaid::rights;
    case SMBDIRECT_LINK_CLOSED:
      return LinkSaid::closed;
    case SMBDIRECT_LINK_DIRECT_REFUSED:
      return LinkSaid::direct_refused;
    case SMBDIRECT_LINK_USE:
      return LinkSaid::use;
    default:
      return std::nullopt;
  }
}

bool has_grant(LinkSaid said) {
  return said == LinkSaid::grant || said == LinkSaid::rights || said == LinkSaid::closed;
}

std::expected<LinkGrant, LinkError> parse_grant(LinkSaid said, std::span<const std::byte> packet) {
  constexpr uint32_t kBoth = SMBDIRECT_RIGHT_READ | SMBDIRECT_RIGHT_WRITE;
  const auto rights = load<uint32_t>(packet, SMBDIRECT_GRANT_AT_RIGHTS);
  if (rights > kBoth || (said == LinkSaid::grant && rights == 0))
    return std::unexpected(LinkError::bad_rights);
  const auto rest = packet.subspan(SMBDIRECT_GRANT_END);
  if (!std::ranges::all_of(rest, [](std::byte byte) { return byte == std::byte{0}; }))
    return std::unexpected(LinkError::bad_grant);
  return LinkGrant{.tree = load<uint32_t>(packet, SMBDIRECT_GRANT_AT_TREE),
                   .generation = load<uint32_t>(packet, SMBDIRECT_GRANT_AT_GENERATION),
                   .rights = uint8_t(rights),
                   .channel_sequence = load<uint16_t>(packet, SMBDIRECT_GRANT_AT_CHANNEL_SEQUENCE)};
}

LinkPacket encode(uint32_t type, const AreaToken& token) {
  LinkPacket packet{};
  for (size_t i = 0; i < sizeof type; ++i) packet[SMBDIRECT_LINK_AT_TYPE + i] = std::byte(type >> (8 * i));
  std::ranges::copy(token, packet.begin() + SMBDIRECT_LINK_AT_TOKEN);
  return packet;
}

}  // namespace

std::string_view link_error_text(LinkError error) {
  switch (error) {
    case LinkError::bad_length:
      return "a packet of a wrong length";
    case LinkError::unknown_type:
      return "a packet of a kind that the module does not send";
    case LinkError::bad_text:
      return "a text without an end";
    case LinkError::bad_slot:
      return "a slot, or a number of them, that no table has";
    case LinkError::bad_row:
      return "a row that no link has";
    case LinkError::bad_rights:
      return "rights that no open has";
    case LinkError::bad_grant:
      return "more than a grant has";
  }
  return "an invalid packet";
}

std::expected<LinkMessage, LinkError> parse_link(std::span<const std::byte> packet) {
  if (packet.size() != SMBDIRECT_LINK_SIZE) return std::unexpected(LinkError::bad_length);
  const auto said = said_by_module(load<uint32_t>(packet, SMBDIRECT_LINK_AT_TYPE));
  if (!said) return std::unexpected(LinkError::unknown_type);
  LinkMessage message{.said = *said,
                      .number = load<uint32_t>(packet, SMBDIRECT_LINK_AT_NUMBER),
                      .session = load<uint64_t>(packet, SMBDIRECT_LINK_AT_SESSION),
                      .token = {},
                      .text = {},
                      .grant = {}};
  std::ranges::copy(packet.subspan(SMBDIRECT_LINK_AT_TOKEN, SMBDIRECT_TOKEN_SIZE), message.token.begin());
  if (*said == LinkSaid::table && (message.number == 0 || message.number > SMBDIRECT_SLOTS_MAX))
    return std::unexpected(LinkError::bad_slot);
  if (*said == LinkSaid::use && message.number >= SMBDIRECT_USE_ROWS)
    return std::unexpected(LinkError::bad_row);
  if (has_grant(*said)) {
    if (message.number >= SMBDIRECT_SLOTS_MAX) return std::unexpected(LinkError::bad_slot);
    const auto grant = parse_grant(*said, packet);
    if (!grant) return std::unexpected(grant.error());
    message.grant = *grant;
    return message;
  }
  const auto text = packet.subspan(SMBDIRECT_LINK_AT_TEXT, SMBDIRECT_LINK_TEXT_SIZE);
  const auto end = std::ranges::find(text, std::byte{0});
  if (end == text.end()) return std::unexpected(LinkError::bad_text);
  std::for_each(text.begin(), end, [&](std::byte byte) {
    const auto c = std::to_integer<unsigned char>(byte);
    message.text += c >= 0x20 && c < 0x7f ? char(c) : '?';
  });
  return message;
}

LinkPacket encode_area(const AreaToken& token) { return encode(SMBDIRECT_LINK_AREA, token); }
LinkPacket encode_area_drop(const AreaToken& token) { return encode(SMBDIRECT_LINK_AREA_DROP, token); }
LinkPacket encode_direct() { return encode(SMBDIRECT_LINK_DIRECT, {}); }

}  // namespace smbdirect::protocol::proxy
