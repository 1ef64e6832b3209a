// SPDX-License-Identifier: MIT
#include "protocol/smb2/used_ids.h"

#include <utility>

namespace smbdirect::protocol::smb2 {

bool UsedIds::unused(uint64_t first, uint32_t count) const {
  if (first < low_ || first - low_ >= kMost || count > kMost - (first - low_)) return false;
  for (uint64_t id = first; id < first + count; ++id) {
    if (id - low_ >= bits_.size() * 64) break;  // above all that is used
    if (at(id)) return false;
  }
  return true;
}

bool UsedIds::use(uint64_t first, uint32_t count) {
  if (!unused(first, count)) return false;
  if (first == low_ && above_ == 0) {
    low_ += count;
    return true;
  }
  reach(first + count);
  for (uint64_t id = first; id < first + count; ++id) bits_[word(id)] |= uint64_t{1} << (id % 64);
  above_ += count;
  for (; above_ != 0 && at(low_); ++low_, --above_) bits_[word(low_)] &= ~(uint64_t{1} << (low_ % 64));
  return true;
}

void UsedIds::reach(uint64_t end) {
  constexpr size_t kFirst = 8;
  size_t words = bits_.empty() ? kFirst : bits_.size();
  while (words * 64 < end - low_) words *= 2;
  if (words == bits_.size()) return;
  // The words of the ring in their new places; that of low_ may lie at both of its ends.
  const std::vector<uint64_t> old = std::exchange(bits_, std::vector<uint64_t>(words));
  for (uint64_t id = low_; id < low_ + old.size() * 64; ++id) {
    if ((old[size_t(id / 64) & (old.size() - 1)] >> (id % 64) & 1) != 0)
      bits_[word(id)] |= uint64_t{1} << (id % 64);
  }
}

}  // namespace smbdirect::protocol::smb2
