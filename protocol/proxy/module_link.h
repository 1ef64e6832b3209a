// SPDX-License-Identifier: MIT
// The packets between a worker and the daemon's module in smbd (smbdirect_area.h says who says what when).
// Pure functions over bytes; the module runs in a process that a client may have taken over, and is not
// trusted.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <span>
#include <string>
#include <string_view>

#include "protocol/proxy/smbdirect_area.h"

namespace smbdirect::protocol::proxy {

using AreaToken = std::array<std::byte, SMBDIRECT_TOKEN_SIZE>;
using LinkPacket = std::array<std::byte, SMBDIRECT_LINK_SIZE>;

enum class LinkSaid : uint8_t { hello, tree, tree_refused, tree_gone, area_added, area_gone };

/// What the module says; the fields that a kind does not use are as they came.
struct LinkMessage {
  LinkSaid said{};
  uint32_t number = 0;  // hello: the version; trees: the tree; area_added: an NTSTATUS
  uint64_t session = 0;
  AreaToken token{};
  std::string text;  // printable ASCII, '?' for what is not
};

enum class LinkError : uint8_t { bad_length, unknown_type, bad_text };
[[nodiscard]] std::string_view link_error_text(LinkError error);

[[nodiscard]] std::expected<LinkMessage, LinkError> parse_link(std::span<const std::byte> packet);

/// AREA, whose descriptor goes beside it, and AREA_DROP.
[[nodiscard]] LinkPacket encode_area(const AreaToken& token);
[[nodiscard]] LinkPacket encode_area_drop(const AreaToken& token);

}  // namespace smbdirect::protocol::proxy
