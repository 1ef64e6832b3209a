// SPDX-License-Identifier: MIT
// Named totals of a component, counted since its start or current: printed as a line of the log and as JSON
// from the same rows. Plain values; any process.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace smbdirect::shm {

struct Total {
  std::string_view name;  // constant
  uint64_t count = 0;
};
using Totals = std::vector<Total>;

/// "accepted=12 granted=11".
[[nodiscard]] inline std::string totals_text(const Totals& totals) {
  std::string text;
  for (const Total& total : totals) {
    if (!text.empty()) text += ' ';
    text.append(total.name).append("=").append(std::to_string(total.count));
  }
  return text;
}

}  // namespace smbdirect::shm
