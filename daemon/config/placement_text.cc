// SPDX-License-Identifier: MIT
#include "daemon/config/placement_text.h"

#include <set>

#include "shm/base/number.h"

namespace smbdirect::daemon {

std::optional<std::vector<unsigned>> parse_processor_list(std::string_view text) {
  std::set<unsigned> found;
  for (;;) {
    const std::string_view part = text.substr(0, text.find(','));
    const size_t dash = part.find('-');
    const auto first = shm::number_from_text<unsigned>(part.substr(0, dash));
    const auto last = dash == part.npos ? first : shm::number_from_text<unsigned>(part.substr(dash + 1));
    if (!first || !last || *first > *last || *last >= kMostProcessors) return std::nullopt;
    for (unsigned processor = *first; processor <= *last; ++processor) found.insert(processor);
    if (part.size() == text.size()) break;
    text.remove_prefix(part.size() + 1);
  }
  return std::vector<unsigned>(found.begin(), found.end());
}

bool is_placement(std::string_view text) {
  return text == kNoPlacement || text == kAutomaticPlacement || parse_processor_list(text);
}

}  // namespace smbdirect::daemon
