// SPDX-License-Identifier: MIT
// The packets that a client may send between its messages, and what is none of them.
#include "protocol/smb2/session_service.h"

#include <doctest/doctest.h>

#include "tests/unit/protocol/smb2/build_pdu.h"

namespace smb2_test {

namespace smb2 = smbdirect::protocol::smb2;
using Type = smb2::SessionPacket::Type;

namespace {

smb2::SessionPacket parse(const char* digits) {
  const Bytes bytes = hex(digits);
  return smb2::parse_session_packet(std::span(bytes).first<smb2::kNbtBytes>());
}

}  // namespace

TEST_CASE("a message has a length of 24 bits") {
  CHECK(parse("00 000044").type == Type::message);
  CHECK(parse("00 000044").length == 0x44);
  CHECK(parse("00 020000").length == 0x20000);  // more than NetBIOS' 17 bits
  CHECK(parse("00 ffffff").length == 0xffffff);
  CHECK(parse("00 000000").type == Type::message);
}

TEST_CASE("a keepalive is of no length; a request's length has 17 bits") {
  CHECK(parse("85 000000").type == Type::keepalive);
  CHECK(parse("85 000001").type == Type::other);
  CHECK(parse("81 000044").type == Type::request);
  CHECK(parse("81 000044").length == 0x44);
  CHECK(parse("81 01ffff").type == Type::request);
  CHECK(parse("81 020000").type == Type::other);
}

TEST_CASE("what servers say, and the rest, is nothing a client may say") {
  for (unsigned type = 1; type < 256; ++type) {
    CAPTURE(type);
    if (type == 0x81 || type == 0x85) continue;
    const std::array<std::byte, 4> word{std::byte(type)};
    CHECK(smb2::parse_session_packet(word).type == Type::other);
  }
}

}  // namespace smb2_test
