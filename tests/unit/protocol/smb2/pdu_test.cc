// SPDX-License-Identifier: MIT
// Headers, chains' links, NEGOTIATE facts and the direct-TCP length word, against bytes written by hand.
#include "protocol/smb2/pdu.h"

#include <algorithm>

#include <doctest/doctest.h>

#include "tests/unit/protocol/smb2/build_pdu.h"

namespace smb2_test {

namespace smb2 = smbdirect::protocol::smb2;
using smb2::Violation;

TEST_CASE("a READ request header is decoded field by field") {
  const Bytes pdu =
      hex("fe534d42 4000 1000 0500 0000 0800 2000 04000030 00000000"
          "2a00000000000000 fffe0000 07000000 8877665544332211 00000000000000000000000000000000");
  const auto header = smb2::parse_header(pdu);
  REQUIRE(header);
  CHECK(header->credit_charge == 16);
  CHECK(header->status == 5);
  CHECK(header->command == smb2::Command::read);
  CHECK(header->credits == 32);
  CHECK(header->flags == 0x30000004);
  CHECK(header->next_command == 0);
  CHECK(header->message_id == 42);
  CHECK(header->session_id == 0x1122334455667788);
  CHECK(header->related());
  CHECK_FALSE(header->response());
  CHECK_FALSE(header->async());
  CHECK_FALSE(header->is_signed());
}

TEST_CASE("what is not an SMB2 header is refused by its own name") {
  Bytes pdu = header(kEcho, {});
  CHECK(smb2::parse_header({}).error() == Violation::too_short);
  CHECK(smb2::parse_header(std::span(pdu).first(3)).error() == Violation::too_short);
  CHECK(smb2::parse_header(std::span(pdu).first(63)).error() == Violation::too_short);
  put(pdu, 4, 65, 2);
  CHECK(smb2::parse_header(pdu).error() == Violation::bad_header_size);
  put(pdu, 4, 64, 2);
  for (const auto& [id, violation] : {std::pair{0xFF, Violation::smb1},
                                      {0xFD, Violation::not_smb2},
                                      {0xFC, Violation::not_smb2},
                                      {0x00, Violation::not_smb2}}) {
    put(pdu, 0, static_cast<uint64_t>(id), 1);
    CHECK(smb2::parse_header(pdu).error() == violation);
  }
  put(pdu, 0, 0x434D53FE, 4);  // FE 'SMC'
  CHECK(smb2::parse_header(pdu).error() == Violation::not_smb2);
}

TEST_CASE("NextCommand is 0 or an aligned step that leaves room for a header on both sides") {
  CHECK(smb2::valid_next_command(0, 64));
  CHECK(smb2::valid_next_command(64, 128));
  CHECK(smb2::valid_next_command(72, 200));
  CHECK_FALSE(smb2::valid_next_command(64, 127));
  CHECK_FALSE(smb2::valid_next_command(68, 200));
  CHECK_FALSE(smb2::valid_next_command(56, 200));
  CHECK_FALSE(smb2::valid_next_command(8, 200));
  CHECK_FALSE(smb2::valid_next_command(208, 200));
  CHECK_FALSE(smb2::valid_next_command(0xFFFFFFF8, 0xFFFFFF));
}

TEST_CASE("elements of a chain are cut at NextCommand, the last at the end") {
  const Bytes pdu = chain({plain(kCreate, {.message_id = 1}, 57), plain(kClose, {.message_id = 2}, 24)});
  const auto first = smb2::parse_element(pdu);
  REQUIRE(first);
  CHECK(first->length == 128);
  CHECK_FALSE(first->last());
  const auto second = smb2::parse_element(std::span(pdu).subspan(first->length));
  REQUIRE(second);
  CHECK(second->length == 88);
  CHECK(second->last());
  CHECK(second->header.message_id == 2);
}

TEST_CASE("NEGOTIATE request: the client's GUID and highest dialect") {
  // Windows 11's: five dialects, negotiate contexts behind them.
  Bytes pdu =
      hex("fe534d42 4000 0000 00000000 0000 2100 00000000 00000000 0100000000000000 fffe0000 00000000"
          "0000000000000000 00000000000000000000000000000000"
          "2400 0500 0100 0000 7f000000 00112233445566778899aabbccddeeff 70000000 0200 0000"
          "0202 1002 0003 0203 1103 0000"
          "0100 2600 00000000");
  const auto facts = smb2::parse_negotiate_request(pdu);
  REQUIRE(facts);
  CHECK(facts->highest_dialect == 0x0311);
  smb2::Guid guid{};
  std::ranges::copy(hex("00112233445566778899aabbccddeeff"), guid.bytes.begin());
  CHECK(facts->client_guid == guid);

  SUBCASE("wildcards, drafts and unknown dialects do not count") {
    const auto odd = smb2::parse_negotiate_request(negotiate_request({0x0202, 0x02FF, 0x0310, 0xFFFF}));
    REQUIRE(odd);
    CHECK(odd->highest_dialect == 0x0202);
    CHECK(smb2::parse_negotiate_request(negotiate_request({}))->highest_dialect == 0);
  }
  SUBCASE("dialects beyond the PDU") {
    put(pdu, 66, 0xFFFF, 2);
    CHECK(smb2::parse_negotiate_request(pdu).error() == Violation::bad_body);
    const Bytes exactly = cut(negotiate_request({0x0300}), 102);
    CHECK(smb2::parse_negotiate_request(exactly));
    CHECK(smb2::parse_negotiate_request(std::span(exactly).first(101)).error() == Violation::bad_body);
    CHECK(smb2::parse_negotiate_request(std::span(exactly).first(99)).error() == Violation::bad_body);
  }
  SUBCASE("other things are not NEGOTIATE requests") {
    put(pdu, 64, 35, 2);
    CHECK(smb2::parse_negotiate_request(pdu).error() == Violation::bad_structure_size);
    put(pdu, 64, 36, 2);
    put(pdu, 16, kResponse, 4);
    CHECK(smb2::parse_negotiate_request(pdu).error() == Violation::wrong_direction);
    put(pdu, 16, 0, 4);
    put(pdu, 12, kEcho, 2);
    CHECK(smb2::parse_negotiate_request(pdu).error() == Violation::bad_body);
  }
}

TEST_CASE("direct-TCP length word: 24 bits, and any other type is a refusal") {
  const auto parse = [](std::string_view text) {
    const Bytes bytes = hex(text);
    return smb2::parse_nbt(std::span<const std::byte, 4>(bytes));
  };
  CHECK(*parse("00 000000") == 0);
  CHECK(*parse("00 010203") == 0x010203);
  CHECK(*parse("00 ffffff") == 0xFFFFFF);
  CHECK(parse("83 000001").error() == Violation::nbt_refusal);  // what a denied host gets
  CHECK(parse("85 000000").error() == Violation::nbt_refusal);
  CHECK(std::ranges::equal(smb2::encode_nbt(0x010203), hex("00010203")));
  for (const uint32_t length : {0u, 1u, 255u, 256u, 65536u, 0xFFFFFFu}) {
    const auto word = smb2::encode_nbt(length);
    CHECK(*smb2::parse_nbt(word) == length);
  }
}

TEST_CASE("every violation has words of its own") {
  std::vector<std::string_view> seen;
  for (int i = 0; i <= static_cast<int>(Violation::rdma_channel_over_tcp); ++i) {
    const auto text = smb2::violation_text(static_cast<Violation>(i));
    CHECK_FALSE(text.empty());
    CHECK(text != "unknown violation");
    CHECK(std::ranges::find(seen, text) == seen.end());
    seen.push_back(text);
  }
}

}  // namespace smb2_test
