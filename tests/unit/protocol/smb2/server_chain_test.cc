// SPDX-License-Identifier: MIT
// Compound chains through the server translator, towards smbd and back.
#include <doctest/doctest.h>

#include "tests/unit/protocol/smb2/build_pdu.h"
#include "tests/unit/protocol/smb2/server_fixture.h"

namespace smb2_test {

using smb2::ChainPlan;
using smb2::ResponsePlan;
using smb2::Violation;
using Kind = smb2::ResponsePlan::Kind;

TEST_CASE("chain: each element rewritten, padded, relinked; the rest untouched") {
  const Bytes create = plain(kCreate, {.message_id = 1}, 57);
  const Bytes close = plain(kClose, {.message_id = 5, .flags = kRelated}, 24);
  const auto io = [](uint32_t length) {
    return Io{.length = length, .channel = 1, .memory = kOneDescriptor};
  };
  const Bytes pdu = chain({create, write_request({.message_id = 2, .flags = kRelated}, io(13)),
                           read_request({.message_id = 3, .flags = kRelated}, io(100)),
                           write_request({.message_id = 4, .flags = kRelated}, io(16)), close});
  RequestSide server;
  const Bytes wire = server.rewritten(pdu);
  const Bytes thirteen(13, std::byte{0xEE});
  const Bytes sixteen(16, std::byte{0xEE});
  CHECK(wire == chain({create, write_request({.message_id = 2, .flags = kRelated}, {.data = thirteen}),
                       read_request({.message_id = 3, .flags = kRelated}, {.length = 100}),
                       write_request({.message_id = 4, .flags = kRelated}, {.data = sixteen}), close}));
  CHECK(server.in_flight() == 5);
  CHECK(server.out.fetches.size() == 2);
  CHECK(server.out.reply_bytes == 65536 + 4 * 256);
}

TEST_CASE("chain: a poisoned element leaves its neighbours alone") {
  const auto good = Io{.length = 8, .channel = 1, .memory = kOneDescriptor};
  const auto bad = Io{.length = 8, .channel = 3, .memory = kOneDescriptor};
  // READs without any Buffer: the element must grow to hold smbd's one byte.
  const Bytes bare_read = cut(read_request({.message_id = 2}, {.channel = 1}), 112);
  const Bytes bare_last = cut(read_request({.message_id = 5}, {.channel = 1}), 112);
  const Bytes pdu =
      chain({write_request({.message_id = 1}, good), bare_read, write_request({.message_id = 3}, bad),
             read_request({.message_id = 4}, good), bare_last});
  RequestSide server;
  const Bytes wire = server.rewritten(pdu);
  Bytes refused_write = write_request({.message_id = 3}, {});
  put(refused_write, 66, 0, 2);
  const Bytes eight(8, std::byte{0xEE});
  CHECK(wire == chain({write_request({.message_id = 1}, {.data = eight}),
                       read_request({.message_id = 2}, {.length = kReadTooLong}), refused_write,
                       read_request({.message_id = 4}, {.length = 8}),
                       read_request({.message_id = 5}, {.length = kReadTooLong})}));
  CHECK(server.refused_requests() == 3);
}

TEST_CASE("chain: a bad link or element anywhere is refused") {
  const auto three = [] {
    return chain({plain(kCreate, {.message_id = 1}, 56), plain(kEcho, {.message_id = 2}, 8),
                  plain(kClose, {.message_id = 3}, 24)});
  };
  Bytes pdu = three();
  for (const uint32_t next : {4u, 8u, 56u, 73u, 104u, 0xFFFFFFF8u}) {
    put(pdu, 120 + 20, next, 4);
    CHECK(RequestSide().refusal(pdu) == Violation::bad_next_command);
  }
  pdu = three();
  put(pdu, 120, 0x424D53FF, 4);
  CHECK(RequestSide().refusal(pdu) == Violation::smb1);
  pdu = three();
  put(pdu, 120, 0x424D53FD, 4);
  CHECK(RequestSide().refusal(pdu) == Violation::not_smb2);
  pdu = three();
  put(pdu, 120 + 16, kResponse, 4);
  CHECK(RequestSide().refusal(pdu) == Violation::wrong_direction);
  CHECK(RequestSide().refusal({}) == Violation::too_short);
}

TEST_CASE(
    "RDMA-channel WRITEs that would outgrow smbd's 24-bit length are refused by smbd, not by the length") {
  const std::vector<BufferDescriptor> large{{0, 9, 0xFFFFFFFF}};
  const auto io = Io{.length = 8 << 20, .channel = 2, .memory = large};
  RequestSide server;
  const Bytes wire = server.rewritten(
      chain({write_request({.message_id = 1}, io), write_request({.message_id = 2}, io),
             write_request({.message_id = 3}, Io{.length = 7 << 20, .channel = 2, .memory = large})}));
  CHECK(wire.size() <= 0xFFFFFF);
  CHECK(server.refused_requests() == 1);
  CHECK(get(wire, 68, 4) == 8 << 20);
  const size_t second = get(wire, 20, 4);
  CHECK(get(wire, second + 66, 2) == 0);
  CHECK(get(wire, second + 112 + 68, 4) == 7 << 20);
  Bytes endless = plain(kIoctl, {.message_id = 7}, 0xFFFFFF);
  CHECK(server.refusal(endless) == Violation::bad_body);
}

TEST_CASE("compound responses are gathered") {
  ResponseSide server;
  server.read(1);
  const Bytes pdu =
      chain({read_response({.message_id = 1}, pattern(9, 1)), plain(kClose, {.flags = kResponse})});
  CHECK(server.plan(pdu).kind == Kind::gather);
  CHECK(server.in_flight() == 1);
  Bytes bad = pdu;
  for (const uint32_t next : {8u, 90u, 0x10000u}) {
    put(bad, 20, next, 4);
    CHECK(server.refusal(bad) == Violation::bad_next_command);
  }
}

TEST_CASE("compound: READ first, in the middle and last; data dropped, links and padding right") {
  const Bytes create = plain(kCreate, {.message_id = 1, .flags = kResponse}, 88);
  const Bytes close = plain(kClose, {.message_id = 5, .flags = kResponse | kRelated}, 60);
  const Bytes a = pattern(33, 1), b = pattern(100, 2), c = pattern(5, 3);
  ResponseSide server;
  server.read(2);
  server.read(3, 1);
  server.read(4);
  server.plain_read(6);
  server.noted(plain(kCreate, {.message_id = 1}, 57));
  server.noted(plain(kClose, {.message_id = 5}, 24));
  const Bytes inline_read = read_response({.message_id = 6}, pattern(20, 7));

  const auto placed = [](uint64_t id, uint32_t n, uint32_t status = 0) {
    Bytes pdu = read_response({.message_id = id, .status = status}, {});
    put(pdu, 72, n, 4);
    return pdu;
  };
  Bytes pdu = chain({read_response({.message_id = 2}, a), create,
                     read_response({.message_id = 3, .status = kBufferOverflow}, b), close, inline_read,
                     read_response({.message_id = 4}, c)});
  ChainPlan plan;
  REQUIRE(server.response_chain(pdu, plan));
  CHECK(assemble(plan) ==
        chain({placed(2, 33), create, placed(3, 100, kBufferOverflow), close, inline_read, placed(4, 5)}));
  CHECK(plan.total == assemble(plan).size());
  REQUIRE(plan.placements.size() == 3);
  CHECK(exact(plan.placements[0].data) == a);
  CHECK(exact(plan.placements[1].data) == b);
  CHECK(exact(plan.placements[2].data) == c);
  for (const auto& placement : plan.placements) check_same(placement.to, kThreeDescriptors);
  // Channel 2 twice, the same token both times: it can be invalidated once.
  CHECK(plan.invalidate == std::vector<uint32_t>{0x1A00BC57});
  CHECK(plan.released == server.reserved);
  CHECK(server.in_flight() == 0);
}

TEST_CASE("compound: distinct tokens are all listed") {
  ResponseSide server;
  for (uint32_t i = 0; i < 3; ++i)
    server.send(
        write_request({.message_id = i + 1}, {.length = 8, .channel = 2, .memory = {{0, 100 + i, 8}}}));
  ChainPlan plan;
  Bytes pdu = chain({write_response({.message_id = 2}, 8),
                     error_response(kWrite, {.message_id = 1, .status = kInvalidParameter}),
                     write_response({.message_id = 3}, 8)});
  const Bytes before = pdu;
  REQUIRE(server.response_chain(pdu, plan));
  CHECK(plan.invalidate == std::vector<uint32_t>{101, 100, 102});
  CHECK(assemble(plan) == before);
  CHECK(plan.pieces.size() == 1);
  CHECK(plan.placements.empty());
}

TEST_CASE("compound split by an element that goes async: parts arrive on their own") {
  ResponseSide server;
  server.send(chain({plain(kCreate, {.message_id = 1}, 57),
                     read_request({.message_id = 2, .flags = kRelated},
                                  {.length = 100, .channel = 2, .memory = kThreeDescriptors})}));
  ChainPlan plan;
  Bytes first = chain({plain(kCreate, {.message_id = 1, .flags = kResponse}, 88),
                       interim_response(kRead, {.message_id = 2, .flags = kRelated})});
  const Bytes before = first;
  REQUIRE(server.response_chain(first, plan));
  CHECK(assemble(plan) == before);
  CHECK(plan.invalidate.empty());
  CHECK(server.in_flight() == 1);
  const ResponsePlan last =
      server.plan(read_response({.message_id = 2, .flags = kAsync | kRelated}, pattern(100, 5)));
  CHECK(last.kind == Kind::place);
  CHECK(last.invalidate == 0x1A00BC57);
  CHECK(server.in_flight() == 0);
}

TEST_CASE("compound: a bad element anywhere is refused") {
  const auto refused = [](auto&& edit) {
    ResponseSide server;
    server.read(1);
    server.read(2);
    Bytes pdu = chain(
        {read_response({.message_id = 1}, pattern(9, 1)), read_response({.message_id = 2}, pattern(9, 1))});
    edit(pdu);
    ChainPlan plan;
    const auto done = server.response_chain(pdu, plan);
    REQUIRE_FALSE(done);
    return done.error();
  };
  CHECK(refused([](Bytes& pdu) { put(pdu, 20, 92, 4); }) == Violation::bad_next_command);
  CHECK(refused([](Bytes& pdu) { put(pdu, 96 + 20, 8, 4); }) == Violation::bad_next_command);
  CHECK(refused([](Bytes& pdu) { put(pdu, 68, 17, 4); }) == Violation::bad_body);  // into the next element
  CHECK(refused([](Bytes& pdu) { put(pdu, 96 + 16, 0, 4); }) == Violation::wrong_direction);
  CHECK(refused([](Bytes& pdu) { put(pdu, 96, 0, 4); }) == Violation::not_smb2);
  CHECK(refused([](Bytes& pdu) { put(pdu, 96 + 24, 3, 8); }) == Violation::response_unmatched);
  CHECK(refused([](Bytes& pdu) { pdu.resize(96 + 63); }) == Violation::bad_next_command);
  CHECK(refused([](Bytes& pdu) { pdu.clear(); }) == Violation::too_short);
}

}  // namespace smb2_test
