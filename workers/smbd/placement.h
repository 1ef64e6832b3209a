// SPDX-License-Identifier: MIT
// Where consecutive bytes go in a client's memory: its descriptors, and how far they are used. One thread.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "protocol/smb2/descriptor.h"

namespace smbdirect::workers {

class Placement {
 public:
  void set(std::span<const protocol::smb2::BufferDescriptor> to) {
    to_.assign(to.begin(), to.end());
    index_ = used_ = 0;
  }
  /// As a request has them.
  void set_packed(std::span<const std::byte> to) {
    to_.clear();
    for (; to.size() >= protocol::smb2::kDescriptorBytes; to = to.subspan(protocol::smb2::kDescriptorBytes))
      to_.push_back(protocol::smb2::load_descriptor(to));
    index_ = used_ = 0;
  }
  void clear() { to_.clear(); }

  /// write(bytes, descriptor): for as many bytes as one RDMA WRITE may have. Whoever has given the
  /// descriptors has seen to it that they suffice; what they do not is left out.
  template <typename Write>
  void place(std::span<const std::byte> bytes, Write&& write) {
    while (!bytes.empty() && index_ < to_.size()) {
      const protocol::smb2::BufferDescriptor& to = to_[index_];
      const size_t here = std::min<size_t>({bytes.size(), to.length - used_, kLargestWrite});
      if (here > 0) {
        write(bytes.first(here),
              protocol::smb2::BufferDescriptor{.offset = to.offset + used_, .token = to.token});
        bytes = bytes.subspan(here);
        used_ += static_cast<uint32_t>(here);
      }
      if (used_ == to.length) {
        ++index_;
        used_ = 0;
      }
    }
  }

 private:
  static constexpr size_t kLargestWrite = 256 * 1024;  // of one RDMA work request, as large as a slab

  std::vector<protocol::smb2::BufferDescriptor> to_;
  size_t index_ = 0;
  uint32_t used_ = 0;
};

}  // namespace smbdirect::workers
