// SPDX-License-Identifier: MIT
// The newest ChannelSequence that a connection's requests have had (MS-SMB2 3.3.5.2.10): a client raises it
// when it has lost one of its channels. smbd remembers the newest for each open file and refuses WRITE, IOCTL
// and SET_INFO with an older one, but no READ. So a READ with an older one must not go to smbd as an IOCTL.
// Owned by one translator; pure.
#pragma once

#include <cstdint>
#include <optional>

namespace smbdirect::protocol::smb2 {

/// MS-SMB2 3.3.5.2.10: numbers that wrap around. smbd's module has the same (protocol/proxy/vfs/use.c).
[[nodiscard]] constexpr bool older_sequence(uint16_t a, uint16_t b) { return int16_t(uint16_t(b - a)) > 0; }

class ChannelSequence {
 public:
  void saw(uint16_t sequence) {
    if (!newest_ || older_sequence(*newest_, sequence)) newest_ = sequence;
  }
  /// Whether an IOCTL with this sequence is as welcome as a READ, as far as requests of this connection go.
  /// smbd does not wrap around as MS-SMB2 does, so nothing is said of the upper half.
  [[nodiscard]] bool is_newest(uint16_t sequence) const {
    return sequence < 0x8000 && !(newest_ && older_sequence(sequence, *newest_));
  }

 private:
  std::optional<uint16_t> newest_;
};

}  // namespace smbdirect::protocol::smb2
