// SPDX-License-Identifier: MIT
// READs and WRITEs through memory shared with smbd: the carrier that smbd gets, byte for byte, and its
// answers as those to what the client asked; what must go another way; lies.
#include <algorithm>
#include <array>
#include <random>

#include <doctest/doctest.h>

#include "tests/unit/protocol/smb2/build_pdu.h"
#include "tests/unit/protocol/smb2/server_fixture.h"

namespace smb2_test {

using smb2::AreaPlace;
using smb2::Command;
using smb2::ResponsePlan;
using smb2::Violation;
using Kind = smb2::ResponsePlan::Kind;

namespace {

constexpr uint32_t kReplay = 0x20000000;
constexpr uint32_t kNotSupported = 0xC00000BB, kFileClosed = 0xC0000128, kLockConflict = 0xC0000054;
constexpr AreaPlace kPlace{.token = {std::byte{0xA0}, std::byte{0xA1}, std::byte{0xA2}, std::byte{0xA3}},
                           .offset = 0x30000};

/// smbd's answer to a carrier: an IOCTL response with SRV_COPYCHUNK_RESPONSE.
Bytes carried(Head head, uint32_t total) {
  head.flags |= kResponse;
  Bytes bytes = header(kIoctl, head);
  bytes.resize(124);
  put(bytes, 64, 49, 2);
  put(bytes, 68, 0x001480F2, 4);
  put(bytes, 96, 112, 4);
  put(bytes, 100, 12, 4);
  put(bytes, 112, 1, 4);
  put(bytes, 120, total, 4);
  return bytes;
}

struct Server : ResponseSide {
  explicit Server(uint16_t dialect = 0x0302) : ResponseSide(dialect) {}
  /// What smbd gets of it.
  Bytes by_area(const Bytes& pdu) {
    sent = exact(pdu);
    REQUIRE(area_io(sent));
    const auto done = request_by_area(sent, kPlace, out);
    REQUIRE(done);
    REQUIRE(*done);
    forwarded(out.ticket);
    Bytes wire;
    for (const smb2::Piece& piece : out.pieces)
      wire.insert(wire.end(), piece.bytes.begin(), piece.bytes.end());
    CHECK(wire.size() == out.total);
    return wire;
  }
  void read_by_area(uint64_t id, uint32_t channel = 2, uint32_t minimum = 0) {
    Bytes pdu =
        read_request({.message_id = id}, {.length = 100, .channel = channel, .memory = kThreeDescriptors});
    put(pdu, 96, minimum, 4);
    (void)by_area(pdu);
  }
  void write_by_area(uint64_t id) {
    (void)by_area(
        write_request({.message_id = id}, {.length = 100, .channel = 2, .memory = kThreeDescriptors}));
  }
  Bytes sent;
  smb2::RewrittenRequest out;
};

Bytes header_of(const ResponsePlan& plan) {
  return {plan.header.begin(), plan.header.begin() + ptrdiff_t(plan.header_bytes)};
}

}  // namespace

TEST_CASE("golden: a READ as smbd gets it") {
  Server server;
  Bytes pdu = read_request({.message_id = 6, .credit_charge = 2, .status = 0x00030000},
                           {.offset = 0x1122334455, .length = 100, .channel = 1, .memory = kOneDescriptor});
  const Bytes wire = server.by_area(pdu);
  const Bytes expected =
      hex("fe534d42 4000 0200 00000300 0b00 0100 00000000 00000000 0600000000000000 00000000 07000000"
          "5544332211000000 00000000000000000000000000000000"
          "3900 0000 f2801400 77000000000000007700000000000000 78000000 38000000 00000000 00000000 00000000 "
          "0c000000"
          "01000000 00000000"
          "a0a1a2a3000000000000000000000000 64000000 01 00 5dd5 01000000 00000000"
          "0000030000000000 5544332211000000 01000000 00000000");
  CHECK(wire == expected);
  CHECK(server.out.fetches.empty());
  CHECK(server.out.reply_bytes == 256);  // the data comes another way
}

TEST_CASE("a WRITE's data is fetched, and write-through goes along") {
  Server server;
  Bytes pdu = write_request({.message_id = 7},
                            {.offset = 5, .length = 100, .channel = 1, .memory = kThreeDescriptors});
  put(pdu, 108, 1, 4);
  const Bytes wire = server.by_area(pdu);
  REQUIRE(server.out.fetches.size() == 1);
  CHECK(server.out.fetches[0].length == 100);
  CHECK(server.out.fetches[0].count() == 3);
  CHECK(get(wire, 120 + 20, 1) == 2);
  CHECK(get(wire, 120 + 21, 1) == 1);
  CHECK(get(wire, 12, 2) == kIoctl);
}

TEST_CASE("golden: the answer to a READ") {
  Server server;
  server.read_by_area(6);
  const ResponsePlan plan = server.plan(carried({.message_id = 6}, 60));
  CHECK(plan.kind == Kind::replace);
  CHECK(plan.command == Command::read);
  CHECK(plan.area_offset == kPlace.offset);
  CHECK(plan.area_released);
  CHECK(plan.data_length == 60);
  check_same(plan.to, kThreeDescriptors);
  CHECK(plan.invalidate == 0x1A00BC57);
  CHECK(plan.released == 256);
  const Bytes expected =
      hex("fe534d42 4000 0100 00000000 0800 0100 01000000 00000000 0600000000000000 00000000 07000000"
          "5544332211000000 00000000000000000000000000000000"
          "1100 5000 00000000 3c000000 00000000");
  CHECK(header_of(plan) == expected);
  CHECK(server.in_flight() == 0);
}

TEST_CASE("golden: the answer to a WRITE") {
  Server server;
  server.write_by_area(6);
  const ResponsePlan plan = server.plan(carried({.message_id = 6}, 100));
  CHECK(plan.data_length == 0);
  CHECK(plan.to.empty());
  CHECK(plan.area_released);
  const Bytes expected =
      hex("fe534d42 4000 0100 00000000 0900 0100 01000000 00000000 0600000000000000 00000000 07000000"
          "5544332211000000 00000000000000000000000000000000"
          "1100 0000 64000000 00000000 0000 0000");
  CHECK(header_of(plan) == expected);
}

TEST_CASE("a failure is one of the READ or WRITE, whichever way it comes") {
  Server server;
  for (const bool read : {true, false}) {
    const auto ask = [&](uint64_t id) { read ? server.read_by_area(id) : server.write_by_area(id); };
    const Bytes expected = error_response(read ? kRead : kWrite, {.message_id = 1, .status = kLockConflict});
    ask(1);  // from the module, as a count
    ResponsePlan plan = server.plan(carried({.message_id = 1}, kLockConflict));
    CHECK(header_of(plan) == expected);
    CHECK(plan.area_released);
    CHECK(plan.data_length == 0);
    CHECK(plan.invalidate == 0x1A00BC57);
    ask(1);  // from smbd, before it got there
    plan = server.plan(error_response(kIoctl, {.message_id = 1, .status = kLockConflict}));
    CHECK(header_of(plan) == expected);
    ask(1);  // with smbd's limits for COPYCHUNK
    Bytes limits = carried({.message_id = 1, .status = kLockConflict}, 1 << 20);
    plan = server.plan(limits);
    CHECK(header_of(plan) == expected);
  }
  CHECK(server.in_flight() == 0);
}

TEST_CASE("an interim answer is one to the READ, and the final one keeps its AsyncId") {
  Server server;
  server.read_by_area(9);
  Bytes interim = interim_response(kIoctl, {.message_id = 9});
  put(interim, 32, 0x4711, 8);
  ResponsePlan plan = server.plan(interim);
  Bytes expected = interim_response(kRead, {.message_id = 9});
  put(expected, 32, 0x4711, 8);
  CHECK(header_of(plan) == expected);
  CHECK_FALSE(plan.area_released);
  CHECK_FALSE(plan.invalidate);
  CHECK(server.in_flight() == 1);
  Bytes last = carried({.message_id = 9, .flags = kAsync}, 100);
  put(last, 32, 0x4711, 8);
  plan = server.plan(last);
  CHECK(plan.data_length == 100);
  CHECK(plan.area_released);
  CHECK(get(plan.header, 12, 2) == kRead);
  CHECK(get(plan.header, 32, 8) == 0x4711);
}

TEST_CASE("what smbd has ended by itself may have I/O that goes on: its place is not free") {
  Server server;
  server.read_by_area(1);  // before it got to the module
  ResponsePlan plan = server.plan(error_response(kIoctl, {.message_id = 1, .status = kFileClosed}));
  CHECK(plan.final);
  CHECK(plan.area_released);
  server.read_by_area(2);
  plan = server.plan(error_response(kIoctl, {.message_id = 2, .status = kCancelled}));
  CHECK(plan.final);
  CHECK_FALSE(plan.area_released);
  server.read_by_area(3);  // when it had waited
  (void)server.plan(interim_response(kIoctl, {.message_id = 3}));
  plan = server.plan(error_response(kIoctl, {.message_id = 3, .flags = kAsync, .status = kFileClosed}));
  CHECK(plan.final);
  CHECK_FALSE(plan.area_released);
  CHECK(header_of(plan) == error_response(kRead, {.message_id = 3, .flags = kAsync, .status = kFileClosed}));
  server.read_by_area(4);  // the module itself, when it had waited
  (void)server.plan(interim_response(kIoctl, {.message_id = 4}));
  plan = server.plan(carried({.message_id = 4, .flags = kAsync}, kLockConflict));
  CHECK(plan.area_released);
  CHECK(server.in_flight() == 0);
}

TEST_CASE("MinimumCount: fewer bytes are none") {
  Server server;
  server.read_by_area(1, 2, 61);
  ResponsePlan plan = server.plan(carried({.message_id = 1}, 60));
  CHECK(header_of(plan) == error_response(kRead, {.message_id = 1, .status = kEndOfFile}));
  CHECK(plan.data_length == 0);
  server.read_by_area(2, 2, 60);
  plan = server.plan(carried({.message_id = 2}, 60));
  CHECK(plan.data_length == 60);
}

TEST_CASE("what smbd may not answer") {
  const auto refused = [](const Bytes& answer) {
    Server server;
    server.read_by_area(6);
    return server.refusal(answer);
  };
  CHECK(refused(carried({.message_id = 6}, 101)) == Violation::response_too_long);
  CHECK(refused(carried({.message_id = 6}, 0xBFFFFFFF)) == Violation::response_too_long);
  CHECK(refused(carried({.message_id = 6, .flags = kSigned}, 1)) == Violation::signed_rdma_channel_response);
  CHECK(refused(read_response({.message_id = 6}, pattern(10, 1))) == Violation::response_wrong_command);
  CHECK(refused(carried({.message_id = 6, .status = kBufferOverflow}, 10)) == Violation::bad_structure_size);
  CHECK(refused(error_response(kIoctl, {.message_id = 6})) == Violation::bad_structure_size);
  for (const size_t at : {96, 100}) {
    Bytes bad = carried({.message_id = 6}, 10);
    put(bad, at, get(bad, at, 4) + 1, 4);
    CHECK(refused(bad) == Violation::bad_body);
  }
  Bytes cut = carried({.message_id = 6}, 10);
  cut.resize(123);
  CHECK(refused(cut) == Violation::bad_body);
  // In a compound, which nothing of ours was.
  Server server;
  server.read_by_area(6);
  Bytes compound =
      chain({carried({.message_id = 6}, 10), error_response(kEcho, {.message_id = 7, .status = kCancelled})});
  CHECK(server.plan(compound).kind == Kind::gather);
  smb2::ChainPlan plan;
  CHECK_FALSE(server.response_chain(compound, plan));
  // Before all of it was sent.
  Server early;
  early.sent =
      exact(read_request({.message_id = 1}, {.length = 100, .channel = 1, .memory = kOneDescriptor}));
  REQUIRE(early.request_by_area(early.sent, kPlace, early.out));
  CHECK(early.refusal(carried({.message_id = 1}, 10)) == Violation::response_too_early);
}

TEST_CASE("what goes another way") {
  const Server server;
  const Io good{.length = 100, .channel = 1, .memory = kThreeDescriptors};
  const auto may = [&](const Bytes& pdu) { return server.area_io(pdu).has_value(); };
  const auto io = server.area_io(read_request({.message_id = 1}, good));
  REQUIRE(io);
  CHECK(io->command == Command::read);
  CHECK(io->session_id == 0x1122334455);
  CHECK(io->tree_id == 7);
  CHECK(io->length == 100);
  CHECK(may(write_request({.message_id = 1}, good)));
  CHECK_FALSE(may(read_request({.message_id = 1, .flags = kSigned}, good)));
  CHECK_FALSE(may(read_request({.message_id = 1, .flags = kRelated}, good)));
  CHECK_FALSE(may(read_request({.message_id = 1, .flags = kAsync}, good)));
  CHECK_FALSE(may(chain({read_request({.message_id = 1}, good), read_request({.message_id = 2}, good)})));
  CHECK_FALSE(may(read_request({.message_id = 1}, {.length = 100})));  // inline
  CHECK_FALSE(may(read_request({.message_id = 1}, {.length = 0, .channel = 1, .memory = kOneDescriptor})));
  CHECK_FALSE(
      may(read_request({.message_id = 1}, {.length = 101, .channel = 1, .memory = kThreeDescriptors})));
  CHECK_FALSE(
      may(read_request({.message_id = 1}, {.length = 100, .channel = 3, .memory = kThreeDescriptors})));
  Io large = good;
  large.length = 65537;
  large.memory = kOneDescriptor;
  CHECK(may(read_request({.message_id = 1, .credit_charge = 2}, large)));
  CHECK_FALSE(may(read_request({.message_id = 1, .credit_charge = 1}, large)));
  CHECK_FALSE(may(read_request({.message_id = 1, .credit_charge = 0}, large)));
  CHECK_FALSE(may(plain(kEcho, {.message_id = 1})));
  Bytes cut = read_request({.message_id = 1}, good);
  for (size_t size = 0; size < 112; ++size)
    CHECK_FALSE(may(Bytes(cut.begin(), cut.begin() + ptrdiff_t(size))));
  const smb2::ServerTranslator fresh({});  // nothing was agreed
  CHECK_FALSE(fresh.area_io(read_request({.message_id = 1}, good)));
}

TEST_CASE("a READ with an older ChannelSequence goes inline: smbd would refuse the IOCTL") {
  const Io io{.length = 100, .channel = 1, .memory = kThreeDescriptors};
  uint64_t id = 1;
  const auto may = [&](const Server& server, uint32_t sequence, bool read = true, uint32_t flags = 0) {
    const Head head{.message_id = id, .flags = flags, .status = sequence};
    return server.area_io(read ? read_request(head, io) : write_request(head, io)).has_value();
  };
  // It is learned from whatever goes to smbd: streamed, in a compound, by the area.
  for (int way = 0; way < 4; ++way) {
    INFO("way " << way);
    Server server;
    const auto send = [&](uint32_t sequence) {
      const Head head{.message_id = id++, .status = sequence};
      smb2::RewrittenRequest out;
      if (way == 0) {
        const Bytes pdu = plain(kEcho, head);
        const auto info = server.classify(prefix_of(pdu), pdu.size());
        REQUIRE(info);
        REQUIRE(server.note(*info));
      } else if (way == 1) {
        Bytes compound = chain({plain(kEcho, {.message_id = id++}), plain(kEcho, head)});
        REQUIRE(server.request(compound, out));
      } else if (way == 2) {
        (void)server.by_area(read_request(head, io));
      } else {
        (void)server.by_area(write_request(head, io));
      }
    };
    CHECK(may(server, 0));
    CHECK(may(server, 5));
    send(0);
    CHECK(may(server, 0));
    send(5);
    CHECK(may(server, 5));
    CHECK(may(server, 6));
    CHECK_FALSE(may(server, 4));
    CHECK_FALSE(may(server, 0));
    CHECK(may(server, 4, false));  // WRITEs are refused either way
    CHECK_FALSE(may(server, 5, true, kReplay));
    CHECK(may(server, 5, false, kReplay));
    if (way < 2) send(2);  // an older one changes nothing
    CHECK(may(server, 5));
    CHECK_FALSE(may(server, 4));
    if (way == 2) continue;  // in the upper half READs go inline
    send(0x7FFF);
    CHECK(may(server, 0x7FFF));
    send(0xFFFE);
    CHECK_FALSE(may(server, 0xFFFE));
    CHECK_FALSE(may(server, 0x7FFF));
    send(3);  // wrapped around
    CHECK(may(server, 3));
    CHECK_FALSE(may(server, 2));
  }
}

TEST_CASE("a READ that another channel has outrun ends the connection, a WRITE is refused as always") {
  constexpr uint32_t kNotAvailable = 0xC0000467;
  Server server;
  server.write_by_area(1);
  const ResponsePlan plan = server.plan(error_response(kIoctl, {.message_id = 1, .status = kNotAvailable}));
  CHECK(header_of(plan) == error_response(kWrite, {.message_id = 1, .status = kNotAvailable}));
  server.read_by_area(2);
  // From the file system below, by the module.
  CHECK(header_of(server.plan(carried({.message_id = 2}, kNotAvailable))) ==
        error_response(kRead, {.message_id = 2, .status = kNotAvailable}));
  server.read_by_area(3);
  CHECK(server.refusal(error_response(kIoctl, {.message_id = 3, .status = kNotAvailable})) ==
        Violation::response_old_sequence);
}

TEST_CASE("a COPYCHUNK with the mark of ours ends the connection, any other passes") {
  Server server;
  const auto copychunk = [](uint32_t code, unsigned mark) {
    Bytes bytes = header(kIoctl, {.message_id = 3});
    bytes.resize(176);
    put(bytes, 64, 57, 2);
    put(bytes, 68, code, 4);
    put(bytes, 142, mark, 2);
    return bytes;
  };
  const auto refused = [&](const Bytes& pdu) {
    const auto info = server.classify(prefix_of(pdu), pdu.size());
    return !info && info.error() == Violation::marked_resume_key;
  };
  CHECK(refused(copychunk(0x001440F2, 0xD55D)));
  CHECK(refused(copychunk(0x001480F2, 0xD55D)));
  CHECK_FALSE(refused(copychunk(0x001480F2, 0)));
  CHECK_FALSE(refused(copychunk(0x001480F2, 0x5DD5)));
  CHECK_FALSE(refused(copychunk(0x0011C017, 0xD55D)));  // FSCTL_PIPE_TRANSCEIVE: somebody's data
  Bytes compound = chain({plain(kEcho, {.message_id = 1}), copychunk(0x001480F2, 0xD55D)});
  smb2::RewrittenRequest out;
  const auto done = server.request(compound, out);
  REQUIRE_FALSE(done);
  CHECK(done.error() == Violation::marked_resume_key);
}

TEST_CASE("random answers: nothing is sent that is not the request's") {
  std::mt19937 random(20261129);
  for (int round = 0; round < 20'000; ++round) {
    Server server;
    const bool read = round % 2 == 0;
    read ? server.read_by_area(6) : server.write_by_area(6);
    Bytes answer = round % 3 == 0 ? error_response(kIoctl, {.message_id = 6, .status = kFileClosed})
                                  : carried({.message_id = 6}, round % 5 == 0 ? kNotSupported : 100);
    for (auto n = random() % 3; n > 0; --n) answer[random() % answer.size()] = std::byte(random());
    answer.resize(random() % 4 == 0 ? random() % (answer.size() + 1) : answer.size());
    const auto plan = server.response(prefix_of(answer), answer.size());
    if (!plan || plan->kind != Kind::replace) continue;
    CHECK(plan->data_length <= (read ? 100u : 0u));
    CHECK(plan->area_offset == kPlace.offset);
    CHECK(get(plan->header, 12, 2) == (read ? kRead : kWrite));
    CHECK(server.in_flight() == (plan->final ? 0 : 1));
  }
}

}  // namespace smb2_test
