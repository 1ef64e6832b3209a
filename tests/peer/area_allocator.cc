// SPDX-License-Identifier: MIT
#include "area_allocator.h"

#include <algorithm>
#include <iterator>

namespace smbdirect::tests::peer {
namespace {

constexpr size_t round_up(size_t length) {
  return (length + AreaAllocator::kAlignment - 1) / AreaAllocator::kAlignment * AreaAllocator::kAlignment;
}

}  // namespace

AreaAllocator::AreaAllocator(size_t begin, size_t size)
    : capacity_(size / kAlignment * kAlignment), free_bytes_(capacity_) {
  if (capacity_ != 0) gaps_.emplace(begin, capacity_);
}

std::optional<AreaAllocator::Region> AreaAllocator::take(size_t length) {
  if (length == 0 || length > capacity_) return std::nullopt;
  const size_t taken = round_up(length);
  const auto gap = std::ranges::find_if(gaps_, [&](const auto& each) { return each.second >= taken; });
  if (gap == gaps_.end()) return std::nullopt;
  const auto [offset, room] = *gap;
  gaps_.erase(gap);
  if (room > taken) gaps_.emplace(offset + taken, room - taken);
  free_bytes_ -= taken;
  return Region(*this, offset, length);
}

void AreaAllocator::give_back(size_t offset, size_t length) {
  length = round_up(length);
  free_bytes_ += length;
  auto after = gaps_.lower_bound(offset);
  if (after != gaps_.end() && offset + length == after->first) {
    length += after->second;
    after = gaps_.erase(after);
  }
  if (after != gaps_.begin()) {
    const auto before = std::prev(after);
    if (before->first + before->second == offset) {
      before->second += length;
      return;
    }
  }
  gaps_.emplace_hint(after, offset, length);
}

}  // namespace smbdirect::tests::peer
