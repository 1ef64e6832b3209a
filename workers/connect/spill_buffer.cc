// SPDX-License-Identifier: MIT
#include "workers/connect/spill_buffer.h"

#include <cstring>

namespace smbdirect::workers::connect {

SpillBuffer::Copy SpillBuffer::keep(std::span<const std::byte> bytes) {
  if (bytes.size() > pool_.slab_size()) return {};
  if (!slab_ || slab_.bytes().size() - used_ < bytes.size()) {
    slab_ = pool_.acquire(budget_);
    used_ = 0;
    if (!slab_) return {};
  }
  const auto to = slab_.bytes().subspan(used_, bytes.size());
  std::memcpy(to.data(), bytes.data(), bytes.size());
  used_ += bytes.size();
  Copy copy{slab_.share(), to};
  if (used_ == slab_.bytes().size()) slab_.reset();
  return copy;
}

}  // namespace smbdirect::workers::connect
