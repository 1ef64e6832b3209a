// SPDX-License-Identifier: MIT
// Bytes as tests write and compare them, and hand-made FPDUs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <ostream>
#include <span>
#include <string_view>
#include <vector>

#include "workers/fabric/iwarp/ddp.h"

namespace smbdirect::test {

/// "4d50 41": hexadecimal digits, blanks ignored.
std::vector<std::byte> hex(std::string_view text);
std::vector<std::byte> vec(std::span<const std::byte> bytes);
std::vector<std::byte> operator+(std::vector<std::byte> left, std::span<const std::byte> right);

/// Length, ULPDU, pad, CRC (zero without).
std::vector<std::byte> fpdu(std::span<const std::byte> ulpdu, bool crc = true);
/// The same of a segment.
std::vector<std::byte> fpdu(const workers::fabric::iwarp::DdpHeader& header,
                            std::span<const std::byte> payload = {}, bool crc = true);
std::vector<std::byte> read_request_fpdu(uint32_t msn, const workers::fabric::iwarp::ReadRequest& request,
                                         bool crc = true);

}  // namespace smbdirect::test

namespace std {
// So that a failed comparison shows what was there.
inline ostream& operator<<(ostream& out, const vector<byte>& bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  for (const byte b : bytes)
    out << kDigits[to_integer<unsigned>(b) >> 4] << kDigits[to_integer<unsigned>(b) & 15];
  return out;
}
}  // namespace std
