// SPDX-License-Identifier: MIT
// Which parts of a stretch of a channel's data area are in use: first fit. Owned by one channel of one
// process; it knows offsets only and never touches the area, so nothing is left behind when the process dies.
#pragma once

#include <cstddef>
#include <map>
#include <optional>
#include <utility>

namespace smbdirect::tests::peer {

class AreaAllocator {
 public:
  /// A part of the area, its holder's until it is destroyed. The allocator must outlive it.
  class Region {
   public:
    Region(Region&& other) noexcept
        : owner_(std::exchange(other.owner_, nullptr)), offset_(other.offset_), length_(other.length_) {}
    Region& operator=(Region&& other) noexcept {
      std::swap(owner_, other.owner_);
      std::swap(offset_, other.offset_);
      std::swap(length_, other.length_);
      return *this;
    }
    Region(const Region&) = delete;
    Region& operator=(const Region&) = delete;
    ~Region() {
      if (owner_ != nullptr) owner_->give_back(offset_, length_);
    }
    [[nodiscard]] size_t offset() const { return offset_; }
    [[nodiscard]] size_t length() const { return length_; }

   private:
    friend class AreaAllocator;
    Region(AreaAllocator& owner, size_t offset, size_t length)
        : owner_(&owner), offset_(offset), length_(length) {}
    AreaAllocator* owner_;
    size_t offset_;
    size_t length_;
  };

  /// [begin, begin + size) of the area. Regions begin kAlignment bytes apart, so that two of them share no
  /// cache line.
  AreaAllocator(size_t begin, size_t size);
  AreaAllocator(const AreaAllocator&) = delete;
  AreaAllocator& operator=(const AreaAllocator&) = delete;

  /// Nothing while there is no gap of that length (0 has none).
  [[nodiscard]] std::optional<Region> take(size_t length);

  /// The longest that take() can ever give.
  [[nodiscard]] size_t capacity() const { return capacity_; }
  [[nodiscard]] size_t free_bytes() const { return free_bytes_; }

  static constexpr size_t kAlignment = 64;

 private:
  void give_back(size_t offset, size_t length);

  size_t capacity_;
  size_t free_bytes_;
  std::map<size_t, size_t> gaps_;  // offset -> length, never two that touch
};

}  // namespace smbdirect::tests::peer
