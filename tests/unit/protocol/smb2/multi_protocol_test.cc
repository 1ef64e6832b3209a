// SPDX-License-Identifier: MIT
// SMB1's NEGOTIATE as clients send it, and damaged; and the SMB2 NEGOTIATE made of it.
#include "protocol/smb2/multi_protocol.h"

#include <initializer_list>
#include <random>
#include <string_view>

#include <doctest/doctest.h>

#include "protocol/smb2/response_body.h"
#include "tests/unit/protocol/smb2/build_pdu.h"

namespace smb2_test {

namespace smb2 = smbdirect::protocol::smb2;
using smb2::Violation;

namespace {

Bytes smb1_negotiate(std::initializer_list<std::string_view> dialects) {
  // As impacket and smbclient send it: Flags 18, Flags2 c843 or so, PID of no meaning, MID 0.
  Bytes pdu = hex("ff534d42 72 00000000 18 43c8 0000 0000000000000000 0000 0000 ffff 0000 0000 00 0000");
  for (const std::string_view name : dialects) {
    pdu.push_back(std::byte{2});
    for (const char c : name) pdu.push_back(std::byte(c));
    pdu.push_back(std::byte{0});
  }
  put(pdu, 33, pdu.size() - 35, 2);
  return pdu;
}

}  // namespace

TEST_CASE("the wildcard goes before SMB 2.002, wherever they stand") {
  CHECK(smb2::parse_multi_protocol_negotiate(smb1_negotiate({"NT LM 0.12", "SMB 2.002", "SMB 2.???"})) ==
        0x02FF);
  CHECK(smb2::parse_multi_protocol_negotiate(smb1_negotiate({"SMB 2.???", "SMB 2.002"})) == 0x02FF);
  CHECK(smb2::parse_multi_protocol_negotiate(smb1_negotiate({"PC NETWORK PROGRAM 1.0", "SMB 2.002"})) ==
        0x0202);
}

TEST_CASE("a client without SMB2 is refused as one, and another SMB1 command too") {
  CHECK(smb2::parse_multi_protocol_negotiate(smb1_negotiate({"NT LM 0.12"})).error() == Violation::smb1);
  CHECK(smb2::parse_multi_protocol_negotiate(smb1_negotiate({})).error() == Violation::smb1);
  Bytes other = smb1_negotiate({"SMB 2.???"});
  put(other, 4, 0x73, 1);
  CHECK(smb2::parse_multi_protocol_negotiate(other).error() == Violation::smb1);
}

TEST_CASE("damaged ones are refused") {
  const Bytes good = smb1_negotiate({"NT LM 0.12", "SMB 2.???"});
  for (size_t size = 0; size < good.size(); ++size) {
    CAPTURE(size);
    CHECK_FALSE(smb2::parse_multi_protocol_negotiate(std::span(good).first(size)));
  }
  Bytes bad = good;
  put(bad, 9, 0x98, 1);  // a reply
  CHECK(smb2::parse_multi_protocol_negotiate(bad).error() == Violation::wrong_direction);
  bad = good;
  put(bad, 32, 1, 1);  // WordCount
  CHECK(smb2::parse_multi_protocol_negotiate(bad).error() == Violation::bad_body);
  bad = good;
  put(bad, 35, 3, 1);  // no dialect
  CHECK(smb2::parse_multi_protocol_negotiate(bad).error() == Violation::bad_body);
  bad = good;
  put(bad, bad.size() - 1, 'x', 1);  // no end
  CHECK(smb2::parse_multi_protocol_negotiate(bad).error() == Violation::bad_body);
  CHECK(smb2::parse_multi_protocol_negotiate(header(kEcho, {})).error() == Violation::not_smb2);

  const unsigned seed = std::random_device{}();
  MESSAGE("seed ", seed);
  std::mt19937 random(seed);
  for (int round = 0; round < 20'000; ++round) {
    Bytes any = good;
    for (unsigned changes = random() % 4; changes > 0; --changes)
      any[random() % any.size()] = std::byte(random());
    any.resize(random() % (any.size() + 1));
    (void)smb2::parse_multi_protocol_negotiate(any);
  }
}

TEST_CASE("the server is sent a NEGOTIATE with the one dialect, under the first MessageId") {
  Bytes out(smb2::kMultiProtocolNegotiateBytes, std::byte{0xAA});
  smb2::store_multi_protocol_negotiate(out, 0x02FF);
  const auto header = smb2::parse_header(out);
  REQUIRE(header);
  CHECK(header->command == smb2::Command::negotiate);
  CHECK(header->message_id == 0);
  CHECK(header->credits == 1);
  CHECK(header->flags == 0);
  const auto facts = smb2::parse_negotiate_request(out);
  REQUIRE(facts);
  CHECK(facts->client_guid == smb2::Guid{});
  CHECK(facts->highest_dialect == 0);  // it claims nothing
  CHECK(get(out, 100, 2) == 0x02FF);
}

TEST_CASE("the client is told to go on with SMB2's own NEGOTIATE") {
  const auto out = smb2::multi_protocol_response(0x01DA123456789ABC);
  const auto header = smb2::parse_header(out);
  REQUIRE(header);
  CHECK(header->command == smb2::Command::negotiate);
  CHECK(header->response());
  CHECK(header->message_id == 0);
  CHECK(header->credits == 1);
  const auto facts = smb2::parse_negotiate_response(*header, out);
  REQUIRE(facts);
  REQUIRE(*facts);
  CHECK((*facts)->dialect == 0x02FF);
  CHECK((*facts)->max_read_size == 65536);
  CHECK(get(out, 104, 8) == 0x01DA123456789ABC);
  CHECK(get(out, 120, 2) == out.size());  // where an empty security buffer is
  CHECK(get(out, 122, 2) == 0);
}

}  // namespace smb2_test
