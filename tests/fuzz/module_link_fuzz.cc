// SPDX-License-Identifier: MIT
// Any bytes as a packet of the module in smbd: what is taken is printable and no longer than a text can be.
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
  return 0;
}
