// SPDX-License-Identifier: MIT
// RDMA-channel requests as smbd gets them: golden bytes, each rule of MS-SMB2 3.3.5.12/13.
#include <doctest/doctest.h>

#include "tests/unit/protocol/smb2/build_pdu.h"
#include "tests/unit/protocol/smb2/server_fixture.h"

namespace smb2_test {

using Server = RequestSide;
using smb2::RewrittenRequest;
using smb2::ServerTranslator;
using smb2::Violation;

namespace {

Bytes rdma_channel_read(uint32_t length, uint32_t channel = 1,
                        std::vector<BufferDescriptor> memory = kOneDescriptor) {
  return read_request({.message_id = 10},
                      {.length = length, .channel = channel, .memory = std::move(memory)});
}
Bytes rdma_channel_write(uint32_t length, uint32_t channel = 1,
                         std::vector<BufferDescriptor> memory = kOneDescriptor) {
  return write_request({.message_id = 11},
                       {.length = length, .channel = channel, .memory = std::move(memory)});
}

}  // namespace

TEST_CASE("golden: RDMA-channel WRITE") {
  // MS-SMBD 4's descriptor, 5 bytes at offset 0x1000 of a file; Flags = WRITE_THROUGH.
  const Bytes request =
      hex("fe534d42 4000 0100 0000 0000 0900 0100 00000000 00000000 0500000000000000 fffe0000 01000000"
          "0900000000000000 00000000000000000000000000000000"
          "3100 0000 00000000 0010000000000000 11111111111111112222222222222222 01000000 05000000 7000 1000 "
          "01000000"
          "12e0bcaa00000000 56bc001a 00001000");
  const Bytes expected =
      hex("fe534d42 4000 0100 0000 0000 0900 0100 00000000 00000000 0500000000000000 fffe0000 01000000"
          "0900000000000000 00000000000000000000000000000000"
          "3100 7000 05000000 0010000000000000 11111111111111112222222222222222 00000000 00000000 0000 0000 "
          "01000000"
          "eeeeeeeeee");
  Server server;
  CHECK(server.rewritten(request) == expected);
  REQUIRE(server.out.fetches.size() == 1);
  CHECK(server.out.fetches[0].length == 5);
  check_same(memory_of(server.out.fetches[0]), {{0xAABCE012, 0x1A00BC56, 0x100000}});
  CHECK(server.out.pieces.size() == 2);
  CHECK(server.in_flight() == 1);
}

TEST_CASE("golden: RDMA-channel READ") {
  const Bytes request =
      hex("fe534d42 4000 1000 0000 0000 0800 0100 00000000 00000000 0600000000000000 fffe0000 01000000"
          "0900000000000000 00000000000000000000000000000000"
          "3100 5001 00001000 0010000000000000 11111111111111112222222222222222 07000000 02000000 00001000 "
          "7000 1000"
          "24c0cd0d00000000 57bc001a 00001000");
  const Bytes expected =
      hex("fe534d42 4000 1000 0000 0000 0800 0100 00000000 00000000 0600000000000000 fffe0000 01000000"
          "0900000000000000 00000000000000000000000000000000"
          "3100 5001 00001000 0010000000000000 11111111111111112222222222222222 07000000 00000000 00000000 "
          "0000 0000"
          "00");
  Server server;
  CHECK(server.rewritten(request) == expected);
  CHECK(server.out.fetches.empty());
  CHECK(server.out.reply_bytes == 0x100000);
}

TEST_CASE("NEGOTIATE, SESSION_SETUP, signed and opaque PDUs reach smbd byte-identical, in one piece") {
  Server server(0);
  Bytes encrypted = pattern(300, 8);
  put(encrypted, 0, 0x424D53FD, 4);
  Bytes setup = plain(kSessionSetup, {.message_id = 1}, 200);
  const Bytes signed_read = read_request({.message_id = 2, .flags = kSigned}, {.length = 100});
  const Bytes signed_chain =
      chain({plain(kCreate, {.message_id = 3, .flags = kSigned}, 57),
             read_request({.message_id = 4, .flags = kSigned | kRelated}, {.length = 50}),
             plain(kClose, {.message_id = 5, .flags = kSigned | kRelated}, 24)});
  for (const Bytes& pdu : {negotiate_request({0x0311}), setup, signed_read, signed_chain, encrypted}) {
    CHECK(server.rewritten(pdu) == pdu);
    CHECK(server.out.pieces.size() == 1);
    CHECK(server.out.fetches.empty());
  }
}

TEST_CASE("signed RDMA-channel requests end the connection, alone or in a chain") {
  const auto io = smb2_test::Io{.length = 100, .channel = 1, .memory = kOneDescriptor};
  CHECK(Server().refusal(read_request({.flags = kSigned}, io)) == Violation::signed_rdma_channel_request);
  CHECK(Server().refusal(write_request({.flags = kSigned}, io)) == Violation::signed_rdma_channel_request);
  CHECK(Server().refusal(chain({plain(kCreate, {.message_id = 1}, 57),
                                write_request({.message_id = 2, .flags = kSigned | kRelated}, io)})) ==
        Violation::signed_rdma_channel_request);
}

TEST_CASE("dialect and Channel: what is accepted and what is invalidated") {
  struct Row {
    uint16_t dialect;
    uint32_t channel;
    bool accepted;
    bool invalidated;
  };
  for (const Row& row : {Row{0x0300, 1, true, false},
                         {0x0302, 1, true, false},
                         {0x0311, 1, true, false},
                         {0x0300, 2, false, false},
                         {0x0302, 2, true, true},
                         {0x0311, 2, true, true},
                         {0x0311, 3, false, false},
                         {0x0311, 4, false, false},
                         {0x0311, 0xFFFFFFFF, false, false},
                         {0x0210, 1, false, false},
                         {0x0202, 2, false, false},
                         {0, 1, false, false},
                         {0, 2, false, false}}) {
    CAPTURE(row.dialect);
    CAPTURE(row.channel);
    Server server(row.dialect);
    CHECK(server.poisons(rdma_channel_read(1000, row.channel)) == !row.accepted);
    CHECK(server.poisons(rdma_channel_write(1000, row.channel)) == !row.accepted);
    const auto read_token = server.invalidates(kRead, 10);
    CHECK(read_token.has_value() == row.invalidated);
    if (read_token) CHECK(*read_token == 0x1A00BC56);
    CHECK(server.invalidates(kWrite, 11).has_value() == row.invalidated);
    CHECK(server.in_flight() == 0);
  }
}

TEST_CASE("a poisoned channel-2 request is answered with invalidate when it has a first descriptor") {
  Server server;
  Bytes pdu = rdma_channel_read(1000, 2, {{0, 0x77, 10}, {0, 0x78, 10}});  // too little memory
  CHECK(server.poisons(pdu));
  CHECK(server.invalidates(kRead, 10) == 0x77);
  put(pdu, 110, 24, 2);  // not a multiple of 16, yet there is a first one
  CHECK(server.poisons(pdu));
  CHECK(server.invalidates(kRead, 10) == 0x77);
  put(pdu, 110, 15, 2);
  CHECK(server.poisons(pdu));
  CHECK_FALSE(server.invalidates(kRead, 10));
  put(pdu, 110, 48, 2);  // beyond the PDU
  CHECK(server.poisons(pdu));
  CHECK_FALSE(server.invalidates(kRead, 10));
}

TEST_CASE("MS-SMB2 3.3.5.12/13: where the descriptors lie") {
  for (const bool read : {true, false}) {
    CAPTURE(read);
    const size_t at = read ? 108 : 104;
    const auto with = [&](uint16_t offset, uint16_t length) {
      Bytes pdu = read ? rdma_channel_read(1000) : rdma_channel_write(1000);
      put(pdu, at, offset, 2);
      put(pdu, at + 2, length, 2);
      Server server;
      return server.poisons(pdu);
    };
    CHECK_FALSE(with(112, 16));
    CHECK(with(0, 16));
    CHECK(with(112, 0));
    CHECK(with(0, 0));
    CHECK(with(111, 16));
    CHECK(with(96, 16));
    CHECK(with(112, 15));
    CHECK(with(112, 17));
    CHECK(with(112, 32));
    CHECK(with(113, 16));
    CHECK(with(128, 16));
    CHECK(with(0xFFFF, 0xFFFF));
    CHECK(with(112, 0xFFF0));
    CHECK(with(0xFFF0, 16));
  }
  // Descriptors elsewhere in the buffer are as good.
  Bytes moved = read_request({.message_id = 10}, {.length = 1000, .channel = 1});
  moved.resize(119);
  moved = std::move(moved) + descriptors(kOneDescriptor);
  put(moved, 108, 119, 2);
  put(moved, 110, 16, 2);
  Server server;
  CHECK_FALSE(server.poisons(moved));
}

TEST_CASE("MS-SMB2 3.3.5.12/13: lengths") {
  const auto poisons = [](const Bytes& pdu) {
    Server server(0x0311, 1 << 20, 1 << 19);
    return server.poisons(pdu);
  };
  const std::vector<BufferDescriptor> large{{0, 1, 0xFFFFFFFF}};
  CHECK_FALSE(poisons(rdma_channel_read(1 << 20, 1, large)));
  CHECK(poisons(rdma_channel_read((1 << 20) + 1, 1, large)));
  CHECK_FALSE(poisons(rdma_channel_write(1 << 19, 1, large)));
  CHECK(poisons(rdma_channel_write((1 << 19) + 1, 1, large)));
  CHECK_FALSE(poisons(rdma_channel_read(0, 1)));  // smbd answers it
  CHECK(poisons(rdma_channel_write(0, 1)));

  CHECK(poisons(rdma_channel_read(10, 1, {{0, 1, 0}})));
  CHECK(poisons(rdma_channel_read(10, 1, {{0, 1, 0}, {0, 2, 100}})));
  CHECK_FALSE(poisons(rdma_channel_read(10, 1, {{0, 1, 4}, {0, 2, 0}, {0, 3, 6}})));
  CHECK(poisons(rdma_channel_read(11, 1, {{0, 1, 4}, {0, 2, 0}, {0, 3, 6}})));
  CHECK(poisons(rdma_channel_write(11, 1, {{0, 1, 4}, {0, 2, 6}})));
  // The sum has more than 32 bits.
  CHECK_FALSE(poisons(rdma_channel_read(10, 1, {{0, 1, 0xFFFFFFFF}, {0, 2, 5}})));

  Bytes pdu = rdma_channel_write(10);
  put(pdu, 66, 112, 2);
  CHECK(poisons(pdu));
  pdu = rdma_channel_write(10);
  put(pdu, 68, 1, 4);
  CHECK(poisons(pdu));

  // READ's RemainingBytes: some clients send 0, some the length; neither matters.
  pdu = rdma_channel_read(10);
  put(pdu, 104, 0xFFFFFFFF, 4);
  CHECK_FALSE(poisons(pdu));

  SUBCASE("MaxReadWriteSize bounds as well") {
    ServerTranslator small({.max_read_write_size = 4096});
    agree(small, 0x0311);
    RewrittenRequest out;
    Bytes ok = rdma_channel_read(4096);
    REQUIRE(small.request(ok, out));
    CHECK(small.refused_requests() == 0);
    Bytes over = rdma_channel_write(4097);
    REQUIRE(small.request(over, out));
    CHECK(small.refused_requests() == 1);
  }
}

TEST_CASE("4095 descriptors") {
  std::vector<BufferDescriptor> memory;
  for (uint32_t i = 0; i < 4095; ++i) memory.push_back({i, 1000 + i, 2});
  Server server;
  const Bytes wire = server.rewritten(rdma_channel_write(8190, 2, memory));
  CHECK(wire.size() == 112 + 8190);
  REQUIRE(server.out.fetches.size() == 1);
  check_same(memory_of(server.out.fetches[0]), memory);
  CHECK_FALSE(server.out.fetches[0].descriptor(4095));
  CHECK(server.invalidates(kWrite, 11) == 1000);
  CHECK(server.poisons(rdma_channel_write(8191, 2, memory)));
}

TEST_CASE("duplicate MessageIds, too many requests, CANCEL") {
  Server server;
  REQUIRE(server.note(*smb2::classify_request(plain(kEcho, {.message_id = 40}), 68)));
  CHECK(server.note(*smb2::classify_request(plain(kEcho, {.message_id = 40}), 68)).error() ==
        Violation::duplicate_message_id);
  CHECK(server.refusal(
            read_request({.message_id = 40}, {.length = 8, .channel = 1, .memory = kOneDescriptor})) ==
        Violation::duplicate_message_id);
  CHECK(server.refusal(chain({plain(kEcho, {.message_id = 41}), plain(kEcho, {.message_id = 41})})) ==
        Violation::duplicate_message_id);
  CHECK(server.note(*smb2::classify_request(plain(kEcho, {.message_id = ~uint64_t{0}}), 68)).error() ==
        Violation::reserved_message_id);
  // CANCEL names its target's MessageId and has no answer.
  const size_t before = server.in_flight();
  CHECK(server.note(*smb2::classify_request(plain(kCancel, {.message_id = 40}), 68)));
  const Bytes cancels =
      chain({plain(kCancel, {.message_id = 40}), plain(kCancel, {.message_id = 0, .flags = kAsync})});
  CHECK(server.rewritten(cancels) == cancels);
  CHECK(server.out.reply_bytes == 0);
  CHECK(server.in_flight() == before);

  ServerTranslator small({.max_requests = 2});
  REQUIRE(small.note(*smb2::classify_request(plain(kEcho, {.message_id = 1}), 68)));
  REQUIRE(small.note(*smb2::classify_request(plain(kEcho, {.message_id = 2}), 68)));
  CHECK(small.note(*smb2::classify_request(plain(kEcho, {.message_id = 3}), 68)).error() ==
        Violation::too_many_requests);
}

TEST_CASE("a request for a compressed READ reply is not passed on: it could not be placed") {
  Bytes pdu = rdma_channel_read(100);
  pdu[67] = std::byte{0x03};
  Server server;
  CHECK(std::to_integer<int>(server.rewritten(pdu)[67]) == 0x01);
}

}  // namespace smb2_test
