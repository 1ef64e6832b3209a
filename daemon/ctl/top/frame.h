// SPDX-License-Identifier: MIT
// What smbdirectctl top shows, as lines of text: the same on a terminal and in a file. Pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "daemon/ctl/top/rates.h"
#include "daemon/ctl/top/reading.h"

namespace smbdirect::daemon::top {

enum class Emphasis : uint8_t { none, heading, alarm };

struct Line {
  std::string text;  // printable ASCII
  Emphasis emphasis = Emphasis::none;
};

struct FrameSize {
  size_t width = 80;
  size_t height = 0;  // 0: as many lines as there are
};

/// No line is longer than the width. Where the height is too small, idle clients go first, then workers,
/// and a line says how many are not shown.
[[nodiscard]] std::vector<Line> frame(const Reading& now, const PoolRates& rates, FrameSize size);

/// "0", "417", "1.25k", "380M": three digits and a unit (powers of 1000), at most five characters.
[[nodiscard]] std::string short_number(double value);
/// "45s", "12m 05s", "3h 07m", "12d 4h".
[[nodiscard]] std::string duration_text(uint64_t milliseconds);

}  // namespace smbdirect::daemon::top
