// SPDX-License-Identifier: MIT
// The ids of a channel's RDMA operations that are not DONE yet: few, so a sorted array. Owned by the channel;
// a channel's state carries them to the process that takes it over.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

namespace smbdirect::protocol::proxy::peer {

class Operations {
 public:
  Operations() = default;
  /// `sorted` is that, without repetitions.
  explicit Operations(std::vector<uint64_t> sorted) : ids_(std::move(sorted)) {}

  [[nodiscard]] size_t count() const { return ids_.size(); }
  [[nodiscard]] bool contains(uint64_t id) const { return std::ranges::binary_search(ids_, id); }
  /// So that add() fails no more.
  void reserve_one() {
    if (ids_.size() == ids_.capacity()) ids_.reserve(2 * ids_.size() + 16);
  }
  /// It is not there yet.
  void add(uint64_t id) { ids_.insert(std::ranges::lower_bound(ids_, id), id); }
  /// False: there is no such operation.
  bool remove(uint64_t id) {
    const auto at = std::ranges::lower_bound(ids_, id);
    if (at == ids_.end() || *at != id) return false;
    ids_.erase(at);
    return true;
  }
  [[nodiscard]] const std::vector<uint64_t>& sorted() const { return ids_; }

 private:
  std::vector<uint64_t> ids_;
};

}  // namespace smbdirect::protocol::proxy::peer
