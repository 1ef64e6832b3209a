// SPDX-License-Identifier: MIT
// Which source ports are used with a client's address: from a range below those that operating systems choose
// from (Linux from 32768, Windows from 49152), so that no real connection of the client to the same smbd has
// the same pair of addresses. Pure.
#pragma once

#include <cstdint>

namespace smbdirect::daemon {

struct PortRange {
  uint16_t first = 1024;  // below it a port says "root" to some
  uint16_t last = 32767;

  [[nodiscard]] uint32_t size() const { return last < first ? 0 : uint32_t(last - first) + 1; }
};

/// The ports of a range one after another, from a start that `seed` chooses, and round to the first: each
/// once, at most `tries` of them.
class SourcePorts {
 public:
  SourcePorts(PortRange range, uint32_t seed, uint32_t tries)
      : range_(range), offset_(range.size() == 0 ? 0 : seed % range.size()), left_(tries) {
    if (left_ > range.size()) left_ = range.size();
  }
  /// 0: no more.
  [[nodiscard]] uint16_t next() {
    if (left_ == 0) return 0;
    --left_;
    const auto port = uint16_t(range_.first + offset_);
    offset_ = (offset_ + 1) % range_.size();
    return port;
  }

 private:
  PortRange range_;
  uint32_t offset_;
  uint32_t left_;
};

}  // namespace smbdirect::daemon
