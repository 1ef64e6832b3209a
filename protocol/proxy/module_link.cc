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
    default:
      return std::nullopt;
  }
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
                      .text = {}};
  std::ranges::copy(packet.subspan(SMBDIRECT_LINK_AT_TOKEN, SMBDIRECT_TOKEN_SIZE), message.token.begin());
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

}  // namespace smbdirect::protocol::proxy
