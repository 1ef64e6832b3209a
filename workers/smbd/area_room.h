// SPDX-License-Identifier: MIT
// Which parts of an area are in use: runs of units, taken where the first that fits begins. Allocates nothing
// once it is made. Owned by the session whose area it is; one thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

namespace smbdirect::workers {

class AreaRoom {
 public:
  static constexpr uint32_t kUnitBytes = 16 * 1024;

  /// bytes: what is not a whole unit at its end is not used.
  explicit AreaRoom(uint64_t bytes = 0) : used_(bytes / kUnitBytes) {}

  /// The offset of `length` (> 0) bytes; nothing: there are not so many beside each other.
  [[nodiscard]] std::optional<uint64_t> take(uint32_t length);
  /// What take() gave for this length.
  void give_back(uint64_t offset, uint32_t length);
  [[nodiscard]] size_t units_in_use() const { return in_use_; }

 private:
  [[nodiscard]] static size_t units_of(uint32_t length) {
    return size_t((uint64_t{length} + kUnitBytes - 1) / kUnitBytes);
  }

  std::vector<bool> used_;
  size_t in_use_ = 0;
  size_t first_ = 0;  // no unit before this one is free
};

}  // namespace smbdirect::workers
