// SPDX-License-Identifier: MIT
// Makes text from outside fit for a line of the log or an administrator's terminal: characters that could
// move the cursor, change colours or titles, begin another line or turn the text's direction become '?'.
// Pure; any process.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <utility>

namespace smbdirect::shm {

/// In place, and of the same length. Printable ASCII and well-formed UTF-8 stay; control characters (also
/// U+0080 to U+009F, which terminals obey), line and paragraph separators and the marks of direction do not.
void make_printable(std::span<char> text);

[[nodiscard]] inline std::string printable(std::string text) {
  make_printable(text);
  return text;
}

}  // namespace smbdirect::shm
