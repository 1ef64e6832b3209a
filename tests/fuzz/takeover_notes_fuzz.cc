// SPDX-License-Identifier: MIT
// Whatever is a note is one again, with the same bytes, when it is written down.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "daemon/takeover/notes.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace smbdirect::daemon;
  const auto said = parse_note({reinterpret_cast<const char*>(data), size}, {});
  if (!said) return 0;
  const std::string text = note_text(*said);
  const auto again = parse_note(text, {});
  // A long text is cut, and then stays as it is.
  if (!again || note_name(*again) != note_name(*said) || note_text(*again).size() > text.size() + 3)
    std::abort();
  return 0;
}
