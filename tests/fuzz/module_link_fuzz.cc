// SPDX-License-Identifier: MIT
// Any bytes as a packet of the module in smbd: what is taken is printable and no longer than a text can be,
// and of a slot that a table can have.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <span>

#include "protocol/proxy/module_link.h"

namespace proxy = smbdirect::protocol::proxy;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto message = proxy::parse_link(std::as_bytes(std::span(data, size)));
  if (!message) return 0;
  if (size != SMBDIRECT_LINK_SIZE || message->text.size() >= SMBDIRECT_LINK_TEXT_SIZE) std::abort();
  const auto printable = [](char c) { return c >= 0x20 && c < 0x7f; };
  if (!std::ranges::all_of(message->text, printable)) std::abort();
  using proxy::LinkSaid;
  const LinkSaid said = message->said;
  if (said == LinkSaid::table && (message->number == 0 || message->number > SMBDIRECT_SLOTS_MAX))
    std::abort();
  if (said == LinkSaid::use && message->number >= SMBDIRECT_USE_ROWS) std::abort();
  if (said == LinkSaid::grant || said == LinkSaid::rights || said == LinkSaid::closed) {
    if (message->number >= SMBDIRECT_SLOTS_MAX || !message->text.empty()) std::abort();
  } else if (message->grant.generation != 0) {
    std::abort();
  }
  if (message->grant.rights > 3 || (said == LinkSaid::grant && message->grant.rights == 0)) std::abort();
  return 0;
}
