// SPDX-License-Identifier: MIT
// Which MessageIds of a connection have been used: all below a lower end, and some above it, as in smbd's
// window (MS-SMB2 3.3.1.1). Owned by a SequenceLedger; pure. Grows with the distance of what is used from the
// lower end, to kMost bits and no further.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace smbdirect::protocol::smb2 {

class UsedIds {
 public:
  /// More than the longest window that smbd can have, whose length is a u16.
  static constexpr uint64_t kMost = 65536;

  /// The lowest that is not used.
  [[nodiscard]] uint64_t low() const { return low_; }
  /// How many above it are.
  [[nodiscard]] uint64_t above() const { return above_; }
  /// Whether none of [first, + count) is used, and they could be.
  [[nodiscard]] bool unused(uint64_t first, uint32_t count) const;
  /// They are. False: not all of them can be, and nothing has changed.
  [[nodiscard]] bool use(uint64_t first, uint32_t count);

 private:
  [[nodiscard]] bool at(uint64_t id) const { return (bits_[word(id)] >> (id % 64) & 1) != 0; }
  [[nodiscard]] size_t word(uint64_t id) const { return size_t(id / 64) & (bits_.size() - 1); }
  void reach(uint64_t end);

  uint64_t low_ = 0;
  uint64_t above_ = 0;
  std::vector<uint64_t> bits_;  // a ring of a power of two; those of low_ and above, as far as it goes
};

}  // namespace smbdirect::protocol::smb2
