// SPDX-License-Identifier: MIT
// CRC32C of an FPDU (RFC 5044 4.4: the polynomial, bit order and inversions of iSCSI, RFC 3720 12.1), taken
// piece by piece over the vectors that are sent or received.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace smbdirect::workers::fabric::iwarp {

class Crc32c {
 public:
  void update(std::span<const std::byte> bytes);
  /// The four bytes as they stand in the FPDU's CRC field: iSCSI's bit order puts the low byte first.
  [[nodiscard]] std::array<std::byte, 4> wire() const;
  [[nodiscard]] uint32_t value() const { return ~state_; }

 private:
  uint32_t state_ = 0xffffffff;  // isa-l leaves both inversions to its caller
};

}  // namespace smbdirect::workers::fabric::iwarp
