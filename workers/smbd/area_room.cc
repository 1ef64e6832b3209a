// SPDX-License-Identifier: MIT
#include "workers/smbd/area_room.h"

#include <algorithm>

namespace smbdirect::workers {

std::optional<uint64_t> AreaRoom::take(uint32_t length) {
  const size_t wanted = units_of(length);
  if (wanted == 0 || wanted > used_.size() - in_use_) return std::nullopt;
  while (first_ < used_.size() && used_[first_]) ++first_;
  size_t begin = first_;
  for (size_t at = begin; at < used_.size(); ++at) {
    if (used_[at]) {
      begin = at + 1;
    } else if (at + 1 - begin == wanted) {
      std::fill_n(used_.begin() + ptrdiff_t(begin), wanted, true);
      in_use_ += wanted;
      return uint64_t{begin} * kUnitBytes;
    }
  }
  return std::nullopt;
}

void AreaRoom::give_back(uint64_t offset, uint32_t length) {
  const size_t begin = size_t(offset / kUnitBytes), count = units_of(length);
  std::fill_n(used_.begin() + ptrdiff_t(begin), count, false);
  in_use_ -= count;
  first_ = std::min(first_, begin);
}

}  // namespace smbdirect::workers
