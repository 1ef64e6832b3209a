// SPDX-License-Identifier: MIT
// The mapping of a channel's data area: the only memory that this process shares with the worker. Owned by a
// channel. When the worker dies it stays as it is, and RDMA into it has ended.
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <utility>

namespace smbdirect::protocol::proxy::peer {

class Area {
 public:
  Area() = default;
  /// Of a memfd with just that many bytes, sealed against resizing, or touching it could be deadly. -EPROTO:
  /// it is not such a one; or why it cannot be mapped.
  [[nodiscard]] static std::expected<Area, int> map(int memfd, uint64_t bytes);
  Area(Area&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  Area& operator=(Area&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  Area(const Area&) = delete;
  Area& operator=(const Area&) = delete;
  ~Area();

  [[nodiscard]] uint8_t* data() const { return data_; }
  [[nodiscard]] size_t size() const { return size_; }

 private:
  Area(uint8_t* data, size_t size) : data_(data), size_(size) {}

  uint8_t* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace smbdirect::protocol::proxy::peer
