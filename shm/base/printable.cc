// SPDX-License-Identifier: MIT
#include "shm/base/printable.h"

#include <algorithm>
#include <cstdint>

namespace smbdirect::shm {
namespace {

struct Character {
  size_t length = 1;
  bool shown = false;
};

bool is_shown(uint32_t code) {
  if (code < 0x20 || (code >= 0x7f && code < 0xa0)) return false;
  if (code == 0x061c || (code >= 0x200b && code <= 0x200f)) return false;  // marks of direction, zero width
  if (code >= 0x2028 && code <= 0x202e) return false;  // separators, embeddings, overrides
  if (code >= 0x2060 && code <= 0x206f) return false;  // isolates and other invisible ones
  return code != 0xfeff && !(code >= 0xe0000 && code <= 0xe007f);
}

/// RFC 3629, the shortest form of each code point only.
Character first_of(std::span<const char> text) {
  const auto byte = [&](size_t i) { return uint8_t(text[i]); };
  const uint8_t lead = byte(0);
  if (lead < 0x80) return {.length = 1, .shown = is_shown(lead)};
  const size_t length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
  if (lead < 0xc2 || lead > 0xf4 || text.size() < length) return {};
  uint32_t code = lead & (0x7fu >> length);
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return {};
    code = code << 6 | (byte(i) & 0x3fu);
  }
  constexpr uint32_t kShortest[] = {0, 0, 0x80, 0x800, 0x10000};
  if (code < kShortest[length] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) return {};
  return {.length = length, .shown = is_shown(code)};
}

}  // namespace

void make_printable(std::span<char> text) {
  while (!text.empty()) {
    const Character one = first_of(text);
    if (!one.shown) std::ranges::fill(text.first(one.length), '?');
    text = text.subspan(one.length);
  }
}

}  // namespace smbdirect::shm
