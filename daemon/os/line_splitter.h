// SPDX-License-Identifier: MIT
// Cuts a stream of text into lines, to log another program's output line by line. Bounded: a line that is
// longer than kLongest comes in pieces. Pure.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace smbdirect::daemon {

class LineSplitter {
 public:
  static constexpr size_t kLongest = 1024;

  /// Calls take(std::string_view) for each line that is complete now, without its end. Empty lines are left
  /// out.
  template <class Take>
  void add(std::string_view text, Take take) {
    for (const char c : text) {
      if (c == '\n') {
        flush(take);
        continue;
      }
      if (line_.size() == kLongest) flush(take);
      line_ += c;
    }
  }
  /// What came without an end.
  template <class Take>
  void flush(Take take) {
    if (!line_.empty() && line_.back() == '\r') line_.pop_back();
    if (!line_.empty()) take(std::string_view(line_));
    line_.clear();
  }

 private:
  std::string line_;
};

}  // namespace smbdirect::daemon
