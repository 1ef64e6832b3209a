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

enum class LinkSaid : uint8_t {
  hello,
  tree,
  tree_refused,
  tree_gone,
  area_added,
  area_gone,
  direct_not,
  table,
  grant,
  rights,
  closed,
  direct_refused,
  use,
};

/// Of an open for direct I/O: what grant, rights and closed have in the place of the text.
struct LinkGrant {
  uint32_t tree = 0;  // grant
  uint32_t generation = 0;
  uint8_t rights = 0;             // grant, rights: enum smbdirect_rights; of a grant not 0
  uint16_t channel_sequence = 0;  // grant
};

/// What the module says; the fields that a kind does not use are as they came.
struct LinkMessage {
  LinkSaid said{};
  // hello: the version; trees: the tree; area_added: an NTSTATUS; table: its slots, 1 to SMBDIRECT_SLOTS_MAX;
  // use: a row, less than SMBDIRECT_USE_ROWS;
  // grant, rights, closed: the slot, less than that
  uint32_t number = 0;
  uint64_t session = 0;
  AreaToken token{};  // grant: the FileId
  std::string text;   // printable ASCII, '?' for what is not
  LinkGrant grant;    // empty for what is none
};

enum class LinkError : uint8_t {
  bad_length,
  unknown_type,
  bad_text,
  bad_slot,
  bad_row,
  bad_rights,
  bad_grant
};
[[nodiscard]] std::string_view link_error_text(LinkError error);

[[nodiscard]] std::expected<LinkMessage, LinkError> parse_link(std::span<const std::byte> packet);

/// AREA, whose descriptor goes beside it, and AREA_DROP.
[[nodiscard]] LinkPacket encode_area(const AreaToken& token);
[[nodiscard]] LinkPacket encode_area_drop(const AreaToken& token);
[[nodiscard]] LinkPacket encode_direct();

}  // namespace smbdirect::protocol::proxy
