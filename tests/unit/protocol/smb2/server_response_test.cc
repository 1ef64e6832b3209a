// SPDX-License-Identifier: MIT
// smbd's answers as the RDMA client gets them: golden bytes, interim and final, lies.
#include <algorithm>

#include <doctest/doctest.h>

#include "tests/unit/protocol/smb2/build_pdu.h"
#include "tests/unit/protocol/smb2/server_fixture.h"

namespace smb2_test {

using Server = ResponseSide;
using smb2::ChainPlan;
using smb2::ResponsePlan;
using smb2::ServerTranslator;
using smb2::Violation;
using Kind = smb2::ResponsePlan::Kind;

TEST_CASE("golden: RDMA-channel READ response") {
  Server server;
  server.read(6);
  // smbd: 5 bytes "hello", 31 credits.
  const Bytes response =
      hex("fe534d42 4000 0100 00000000 0800 1f00 01000000 00000000 0600000000000000 fffe0000 01000000"
          "0900000000000000 00000000000000000000000000000000"
          "1100 5000 05000000 00000000 00000000 68656c6c6f");
  const Bytes expected =
      hex("fe534d42 4000 0100 00000000 0800 1f00 01000000 00000000 0600000000000000 fffe0000 01000000"
          "0900000000000000 00000000000000000000000000000000"
          "1100 5000 00000000 05000000 00000000");
  const ResponsePlan plan = server.plan(response);
  CHECK(plan.kind == Kind::place);
  CHECK(plan.data_offset == 80);
  CHECK(plan.data_length == 5);
  check_same(plan.to, kThreeDescriptors);
  CHECK(std::ranges::equal(plan.header, expected));
  CHECK(plan.invalidate == 0x1A00BC57);
  CHECK(plan.released == 256);
  CHECK(server.in_flight() == 0);
}

TEST_CASE("channel 1 is never invalidated") {
  Server server;
  server.read(1, 1);
  server.write(2, 1);
  CHECK_FALSE(server.plan(read_response({.message_id = 1}, pattern(100, 1))).invalidate);
  CHECK_FALSE(server.plan(write_response({.message_id = 2}, 100)).invalidate);
}

TEST_CASE("RDMA-channel WRITE: success and error pass unchanged, with invalidate") {
  Server server;
  server.write(1);
  server.write(2);
  ResponsePlan plan = server.plan(write_response({.message_id = 1}, 100));
  CHECK(plan.kind == Kind::pass);
  CHECK(plan.invalidate == 0x1A00BC57);
  CHECK(plan.released == 256);
  plan = server.plan(error_response(kWrite, {.message_id = 2, .status = 0xC0000022}));
  CHECK(plan.kind == Kind::pass);
  CHECK(plan.invalidate == 0x1A00BC57);
  CHECK(server.in_flight() == 0);
}

TEST_CASE("RDMA-channel READ: errors pass unchanged, with invalidate") {
  Server server;
  for (const uint32_t status : {kEndOfFile, kInvalidParameter, kCancelled, 0x80000006u, 0xC00000B5u}) {
    server.read(1);
    const ResponsePlan plan = server.plan(error_response(kRead, {.message_id = 1, .status = status}));
    CHECK(plan.kind == Kind::pass);
    CHECK(plan.invalidate == 0x1A00BC57);
    CHECK(plan.released == 256);
  }
  // smbd pads error bodies in compounds to 80 bytes; alone too is no harm.
  server.read(1);
  Bytes padded = error_response(kRead, {.message_id = 1, .status = kEndOfFile});
  padded.resize(80);
  CHECK(server.plan(padded).kind == Kind::pass);
}

TEST_CASE("warnings with data are placed: STATUS_BUFFER_OVERFLOW of a pipe") {
  Server server;
  server.read(1);
  const ResponsePlan plan =
      server.plan(read_response({.message_id = 1, .status = kBufferOverflow}, pattern(100, 2)));
  CHECK(plan.kind == Kind::place);
  CHECK(plan.data_length == 100);
  CHECK(get(plan.header, 8, 4) == kBufferOverflow);
  CHECK(get(plan.header, 72, 4) == 100);
}

TEST_CASE("no data: nothing to place, the header alone says so") {
  Server server;
  server.read(1);
  Bytes empty = read_response({.message_id = 1}, {});
  SUBCASE("DataOffset 80") {}
  SUBCASE("DataOffset 0") { empty[66] = std::byte{0}; }
  SUBCASE("a padding byte") { empty.push_back(std::byte{0}); }
  const ResponsePlan plan = server.plan(empty);
  CHECK(plan.kind == Kind::place);
  CHECK(plan.data_length == 0);
  CHECK(plan.to.empty());
  CHECK(get(plan.header, 68, 4) == 0);
  CHECK(get(plan.header, 72, 4) == 0);
  CHECK(plan.invalidate == 0x1A00BC57);
}

TEST_CASE("a padded DataOffset moves the data, not the answer") {
  Server server;
  server.read(1);
  Bytes response = cut(read_response({.message_id = 1}, pattern(40, 3)), 120);
  response[66] = std::byte{88};
  put(response, 68, 32, 4);
  put(response, 72, 99, 4);
  put(response, 76, 0xFFFFFFFF, 4);
  const ResponsePlan plan = server.plan(response);
  CHECK(plan.data_offset == 88);
  CHECK(plan.data_length == 32);
  CHECK(std::to_integer<int>(plan.header[66]) == 80);
  CHECK(get(plan.header, 68, 4) == 0);
  CHECK(get(plan.header, 72, 4) == 32);
  CHECK(get(plan.header, 76, 4) == 0);
}

TEST_CASE("interim responses pass, carry credits and keep the request; then comes the final one") {
  Server server;
  server.read(1);
  server.write(2);
  server.plain_read(3);
  for (int i = 0; i < 2; ++i) {
    for (const auto& [command, id] : {std::pair{kRead, 1}, {kWrite, 2}, {kRead, 3}}) {
      const ResponsePlan plan =
          server.plan(interim_response(command, {.message_id = static_cast<uint64_t>(id)}));
      CHECK(plan.kind == Kind::pass);
      CHECK_FALSE(plan.invalidate);
      CHECK(plan.released == 0);
    }
  }
  CHECK(server.in_flight() == 3);
  ResponsePlan plan = server.plan(read_response({.message_id = 1, .flags = kAsync}, pattern(7, 1)));
  CHECK(plan.kind == Kind::place);
  CHECK(plan.invalidate == 0x1A00BC57);
  CHECK(get(plan.header, 16, 4) == (kAsync | kResponse));
  plan = server.plan(error_response(kWrite, {.message_id = 2, .flags = kAsync, .status = kCancelled}));
  CHECK(plan.invalidate == 0x1A00BC57);
  plan = server.plan(read_response({.message_id = 3, .flags = kAsync}, pattern(100, 1)));
  CHECK(plan.kind == Kind::pass);
  CHECK(plan.released == 256);
  CHECK(server.in_flight() == 0);
}

TEST_CASE("plain responses pass and give back what was reserved") {
  Server server;
  server.plain_read(1);
  server.noted(plain(kCreate, {.message_id = 2, .credit_charge = 3}, 57));
  CHECK(server.plan(read_response({.message_id = 1}, pattern(100, 1))).released == 256);
  CHECK(server.plan(error_response(kCreate, {.message_id = 2, .status = 0xC0000022})).released == 3 * 65536);
  CHECK(server.in_flight() == 0);
}

TEST_CASE("what nobody asked for and may come all the same passes") {
  Server server;
  server.read(1);
  CHECK(server.plan(plain(18, {.message_id = ~uint64_t{0}, .flags = kResponse}, 24)).kind == Kind::pass);
  CHECK(server.plan(plain(19, {.message_id = ~uint64_t{0}, .flags = kResponse}, 24)).kind == Kind::pass);
  Bytes encrypted = pattern(300, 8);
  put(encrypted, 0, 0x424D53FD, 4);
  CHECK(server.plan(encrypted).kind == Kind::pass);
  put(encrypted, 0, 0x424D53FC, 4);
  CHECK(server.plan(encrypted).kind == Kind::pass);
  CHECK(server.in_flight() == 1);
}

TEST_CASE("an encrypted request may be refused in the clear, with data never") {
  Server server;
  const Bytes refused = error_response(kCreate, {.message_id = 99, .status = 0xC0000022});
  CHECK(server.refusal(refused) == Violation::response_unmatched);
  Bytes encrypted = pattern(300, 8);
  put(encrypted, 0, 0x424D53FD, 4);
  server.noted(encrypted);
  CHECK(server.plan(refused).kind == Kind::pass);
  CHECK(server.plan(error_response(kRead, {.message_id = 98, .status = kEndOfFile})).kind == Kind::pass);
  CHECK(server.refusal(read_response({.message_id = 97}, pattern(10, 1))) ==
        Violation::response_unmatched_data);
}

TEST_CASE("a lying READ response is refused") {
  const auto refused = [](Bytes pdu) {
    Server server;
    server.read(1);
    // As the only element of a gathered PDU the verdict is the same.
    Server chained;
    chained.read(1);
    ChainPlan chain_plan;
    const auto in_chain = chained.response_chain(pdu, chain_plan);
    REQUIRE_FALSE(in_chain);
    const Violation violation = server.refusal(pdu);
    CHECK(in_chain.error() == violation);
    return violation;
  };
  const auto with = [](size_t at, uint64_t value, size_t width) {
    Bytes pdu = read_response({.message_id = 1}, pattern(50, 1));
    put(pdu, at, value, width);
    return pdu;
  };
  CHECK(refused(with(68, 51, 4)) == Violation::bad_body);
  CHECK(refused(with(68, 0xFFFFFFFF, 4)) == Violation::bad_body);
  CHECK(refused(with(66, 81, 1)) == Violation::bad_body);
  CHECK(refused(with(66, 255, 1)) == Violation::bad_body);
  CHECK(refused(with(66, 79, 1)) == Violation::bad_body);
  CHECK(refused(with(66, 0, 1)) == Violation::bad_body);
  CHECK(refused(with(64, 16, 2)) == Violation::bad_structure_size);
  CHECK(refused(with(8, kEndOfFile, 4)) == Violation::bad_structure_size);
  CHECK(refused(with(16, kResponse | kSigned, 4)) == Violation::signed_rdma_channel_response);
  CHECK(refused(with(16, 0, 4)) == Violation::wrong_direction);
  CHECK(refused(read_response({.message_id = 1}, pattern(101, 1))) == Violation::response_too_long);
  CHECK(refused(error_response(kRead, {.message_id = 1})) == Violation::bad_structure_size);
  const Bytes honest = read_response({.message_id = 1}, pattern(50, 1));
  for (const size_t size : {64, 65, 66, 79, 80, 129})
    CHECK(refused(cut(honest, size)) == Violation::bad_body);
  CHECK(refused(cut(honest, 63)) == Violation::too_short);
  CHECK(refused(with(0, 0xFF, 1)) == Violation::smb1);
  CHECK(refused(with(0, 0x00, 1)) == Violation::not_smb2);
}

TEST_CASE("data for a request that smbd had to refuse is refused") {
  Server server;
  server.read(1, 3);
  CHECK(server.refused_requests() == 1);
  CHECK(server.refusal(read_response({.message_id = 1}, pattern(10, 1))) == Violation::response_too_long);
}

TEST_CASE("signed errors and WRITE answers need no editing") {
  Server server;
  server.read(1);
  server.write(2);
  CHECK(server.plan(error_response(kRead, {.message_id = 1, .flags = kSigned, .status = kEndOfFile})).kind ==
        Kind::pass);
  CHECK(server.plan(write_response({.message_id = 2, .flags = kSigned}, 100)).kind == Kind::pass);
}

TEST_CASE("NEGOTIATE response: dialect and sizes are learned once, from a success") {
  ServerTranslator server({});
  CHECK(server.dialect() == 0);
  Bytes failure = error_response(kNegotiate, {.status = 0xC00000BB});
  ask(server, negotiate_request({0x0311}), failure);
  CHECK(server.dialect() == 0);
  CHECK_FALSE(server.negotiated());
  negotiate(server, 0x0311, 1 << 20, 2 << 20);
  CHECK(server.dialect() == 0x0311);
  REQUIRE(server.negotiated());
  CHECK(server.negotiated()->max_read_size == 1 << 20);
  CHECK(server.negotiated()->max_write_size == 2 << 20);
  CHECK(server.negotiated()->max_transact_size == 8 << 20);
}

}  // namespace smb2_test
