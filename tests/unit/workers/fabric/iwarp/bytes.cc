// SPDX-License-Identifier: MIT
#include "bytes.h"

#include <cstdlib>

#include "workers/fabric/iwarp/byte_order.h"
#include "workers/fabric/iwarp/crc32c.h"
#include "workers/fabric/iwarp/mpa.h"

namespace smbdirect::test {

namespace iwarp = smbdirect::workers::fabric::iwarp;

std::vector<std::byte> hex(std::string_view text) {
  std::vector<std::byte> out;
  int high = -1;
  for (const char c : text) {
    if (c == ' ') continue;
    int digit = 0;
    if (c >= '0' && c <= '9') {
      digit = c - '0';
    } else if (c >= 'a' && c <= 'f') {
      digit = c - 'a' + 10;
    } else {
      std::abort();
    }
    if (high < 0) {
      high = digit;
    } else {
      out.push_back(static_cast<std::byte>(high << 4 | digit));
      high = -1;
    }
  }
  if (high >= 0) std::abort();
  return out;
}

std::vector<std::byte> vec(std::span<const std::byte> bytes) { return {bytes.begin(), bytes.end()}; }

std::vector<std::byte> operator+(std::vector<std::byte> left, std::span<const std::byte> right) {
  left.insert(left.end(), right.begin(), right.end());
  return left;
}

std::vector<std::byte> fpdu(std::span<const std::byte> ulpdu, bool crc) {
  std::vector<std::byte> out(2);
  iwarp::put_be16(out.data(), static_cast<uint16_t>(ulpdu.size()));
  out = out + ulpdu;
  out.resize(out.size() + iwarp::fpdu_pad(ulpdu.size()));
  iwarp::Crc32c sum;
  sum.update(out);
  return crc ? out + sum.wire() : out + std::vector<std::byte>(4);
}

std::vector<std::byte> fpdu(const iwarp::DdpHeader& header, std::span<const std::byte> payload, bool crc) {
  std::vector<std::byte> ulpdu(header.size());
  iwarp::encode_ddp_header(header, ulpdu.data());
  return fpdu(ulpdu + payload, crc);
}

std::vector<std::byte> read_request_fpdu(uint32_t msn, const iwarp::ReadRequest& request, bool crc) {
  std::vector<std::byte> payload(iwarp::kReadRequestSize);
  iwarp::encode_read_request(request, payload.data());
  return fpdu({.last = true, .opcode = 1, .queue = 1, .msn = msn}, payload, crc);
}

}  // namespace smbdirect::test
