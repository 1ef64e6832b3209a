// SPDX-License-Identifier: MIT
// What a server may say wrongly, smbd or whoever stands in its place: each thing alone ends the connection
// with a Violation. Each row is an honest answer, which passes, and what is done to it.
#include <functional>
#include <string_view>

#include <doctest/doctest.h>

#include "tests/unit/protocol/smb2/build_pdu.h"
#include "tests/unit/protocol/smb2/server_fixture.h"

namespace smb2_test {

using smb2::RewrittenRequest;
using smb2::ServerTranslator;
using smb2::Ticket;
using smb2::Violation;

namespace {

constexpr uint32_t kLength = 100;
constexpr uint64_t kAsyncId = 0x7007;
enum Id : uint64_t {
  kRdmaChannelRead = 1,
  kRdmaChannelWrite,
  kPlainRead,
  kPlainWrite,
  kRefusedRead,
  kOpened,
  kLoggedOn,
  kWaiting,        // has had its interim response
  kNotSentRead,    // RDMA-channel READ, not forwarded
  kNotSentWrite,   // RDMA-channel WRITE, not forwarded
  kNotSentCreate,  // in a compound, not forwarded
  kDone,           // answered
  kNever,          // no such request
};

/// Every kind of request in flight.
struct Scene : ServerTranslator {
  Scene() : ServerTranslator(Limits{}) {
    agree(*this, 0x0302);
    const Io io{.length = kLength, .channel = 2, .memory = kThreeDescriptors};
    Io plain_io{.length = kLength, .data = pattern(kLength, 1)};
    forwarded(asked(read_request({.message_id = kRdmaChannelRead}, io)));
    forwarded(asked(write_request({.message_id = kRdmaChannelWrite}, io)));
    forwarded(noted(read_request({.message_id = kPlainRead}, plain_io)));
    forwarded(noted(write_request({.message_id = kPlainWrite}, plain_io)));
    Io bad = io;
    bad.channel = 3;
    forwarded(asked(read_request({.message_id = kRefusedRead}, bad)));
    forwarded(noted(plain(kCreate, {.message_id = kOpened}, 57)));
    forwarded(noted(plain(kSessionSetup, {.message_id = kLoggedOn}, 24)));
    forwarded(noted(plain(kChangeNotify, {.message_id = kWaiting}, 32)));
    answered(interim(kChangeNotify, kWaiting));
    (void)asked(read_request({.message_id = kNotSentRead}, io));
    (void)asked(write_request({.message_id = kNotSentWrite}, io));
    (void)asked(
        chain({plain(kEcho, {.message_id = 100}), plain(kCreate, {.message_id = kNotSentCreate}, 57)}));
    forwarded(noted(plain(kEcho, {.message_id = kDone})));
    answered(plain(kEcho, {.message_id = kDone, .flags = kResponse}));
  }
  Ticket asked(Bytes pdu) {
    RewrittenRequest out;
    REQUIRE(request(pdu, out));
    return out.ticket;
  }
  Ticket noted(const Bytes& pdu) {
    const auto info = classify(prefix_of(pdu), pdu.size());
    REQUIRE(info);
    const auto ticket = note(*info);
    REQUIRE(ticket);
    return *ticket;
  }
  void answered(const Bytes& pdu) { REQUIRE(response(prefix_of(pdu), pdu.size())); }

  static Bytes interim(uint16_t command, uint64_t id, uint64_t async_id = kAsyncId) {
    Bytes pdu = interim_response(command, {.message_id = id});
    put(pdu, 32, async_id, 8);
    return pdu;
  }
};

std::expected<void, Violation> judge(Bytes pdu) {
  Scene scene;
  pdu = exact(pdu);
  const auto plan = scene.response(prefix_of(pdu), pdu.size());
  if (!plan) return std::unexpected(plan.error());
  if (plan->kind != smb2::ResponsePlan::Kind::gather) return {};
  smb2::ChainPlan chain_plan;
  return scene.response_chain(pdu, chain_plan);
}

using Change = std::function<void(Bytes&)>;
Change set(size_t at, uint64_t value, size_t width) {
  return [=](Bytes& pdu) { put(pdu, at, value, width); };
}
Change size(size_t bytes) {
  return [=](Bytes& pdu) { pdu.resize(bytes); };
}
Change id(uint64_t value) { return set(24, value, 8); }
Change command(uint16_t value) { return set(12, value, 2); }
Change status(uint32_t value) { return set(8, value, 4); }
Change flags(uint32_t value) { return set(16, value, 4); }

struct Row {
  std::string_view what;
  Bytes honest;
  Change lie;
  Violation violation;
};

const Bytes kRdmaChannelReadAnswer = read_response({.message_id = kRdmaChannelRead}, pattern(kLength, 1));
const Bytes kRdmaChannelWriteAnswer = write_response({.message_id = kRdmaChannelWrite}, kLength);
const Bytes kPlainReadAnswer = read_response({.message_id = kPlainRead}, pattern(kLength, 1));
const Bytes kPlainWriteAnswer = write_response({.message_id = kPlainWrite}, kLength);
const Bytes kCreateAnswer = plain(kCreate, {.message_id = kOpened, .flags = kResponse}, 89);
const Bytes kRefusal = error_response(kRead, {.message_id = kRefusedRead, .status = kInvalidParameter});
const Bytes kInterim = Scene::interim(kRead, kRdmaChannelRead);
const Bytes kNotification = plain(18, {.message_id = ~uint64_t{0}, .flags = kResponse}, 24);
Bytes waited() {
  Bytes pdu = plain(kChangeNotify, {.message_id = kWaiting, .flags = kResponse | kAsync}, 9);
  put(pdu, 32, kAsyncId, 8);
  return pdu;
}
const Bytes kWaited = waited();
const Bytes kCompound = chain({kCreateAnswer, kRdmaChannelReadAnswer, kRdmaChannelWriteAnswer});
constexpr size_t kSecond = 160;  // where the READ begins in it

using enum Violation;
const Row kRows[] = {
    // Which request it is for.
    {"a MessageId nobody used", kPlainWriteAnswer, id(kNever), response_unmatched},
    {"an error under a MessageId nobody used", kRefusal, id(kNever), response_unmatched},
    {"a second answer", plain(kEcho, {.message_id = kDone, .flags = kResponse}), {}, response_unmatched},
    {"an interim response after the final one", kInterim, id(kDone), response_unmatched},
    {"a READ's answer before the READ went", kRdmaChannelReadAnswer, id(kNotSentRead), response_too_early},
    {"a WRITE's answer before its data went", kRdmaChannelWriteAnswer, id(kNotSentWrite), response_too_early},
    {"a WRITE's failure before its data went",
     error_response(kWrite, {.message_id = kRdmaChannelWrite, .status = kCancelled}), id(kNotSentWrite),
     response_too_early},
    {"an interim response before the request went", kInterim, id(kNotSentRead), response_too_early},
    {"an answer from a compound that is still here", kCreateAnswer, id(kNotSentCreate), response_too_early},
    {"a WRITE's answer to a READ", kRdmaChannelWriteAnswer, id(kRdmaChannelRead), response_wrong_command},
    {"a READ's answer to a WRITE", kRdmaChannelReadAnswer, id(kRdmaChannelWrite), response_wrong_command},
    {"a READ's answer to a CREATE", kPlainReadAnswer, id(kOpened), response_wrong_command},
    {"an answer of another command", kCreateAnswer, command(kEcho), response_wrong_command},
    {"an answer of an unknown command", kCreateAnswer, command(0xFFFF), response_wrong_command},
    {"a failure of another command", kRefusal, command(kWrite), response_wrong_command},
    {"an interim response of another command", kInterim, command(kWrite), response_wrong_command},
    {"a NEGOTIATE's answer to a CREATE", kCreateAnswer, command(kNegotiate), response_wrong_command},
    {"a second NEGOTIATE's answer", negotiate_response(0x0302), {}, response_unmatched},
    {"a session's answer to a CREATE", plain(kSessionSetup, {.message_id = kLoggedOn, .flags = kResponse}, 8),
     id(kOpened), response_wrong_command},
    {"a CANCEL's refusal, without a CANCEL",
     error_response(kCancel, {.message_id = kRdmaChannelRead, .status = 0xC0000022}),
     {},
     response_unmatched},
    // What it says it is.
    {"a request", kPlainReadAnswer, flags(0), wrong_direction},
    {"no SMB2", kPlainReadAnswer, set(0, 0, 4), not_smb2},
    {"SMB1", kPlainReadAnswer, set(0, 0x424D53FF, 4), smb1},
    {"a header of another size", kPlainReadAnswer, set(4, 65, 2), bad_header_size},
    {"less than a header", kPlainReadAnswer, size(63), too_short},
    {"nothing", kPlainReadAnswer, size(0), too_short},
    {"less than a header, encrypted", kPlainReadAnswer,
     [](Bytes& pdu) {
       put(pdu, 0, 0x424D53FD, 4);
       pdu.resize(63);
     },
     too_short},
    // STATUS_PENDING.
    {"pending without an AsyncId", kInterim, flags(kResponse), response_bad_pending},
    {"pending in place of the end", kWaited,
     [](Bytes& pdu) { put(pdu, 8, kPending, 4), put(pdu, 16, kResponse, 4); }, response_bad_pending},
    {"pending again, another AsyncId", Scene::interim(kChangeNotify, kWaiting), set(32, 5, 8),
     response_bad_pending},
    {"the end under another AsyncId", kWaited, set(32, 5, 8), response_bad_pending},
    {"the end without an AsyncId", kWaited, flags(kResponse), response_bad_pending},
    {"pending with a READ's body", kInterim, set(64, 17, 2), bad_structure_size},
    {"pending without a body", kInterim, size(64), bad_body},
    // Notifications.
    {"a notification that is an answer", kNotification, command(kRead), response_bad_notification},
    {"a notification that is a CREATE's", kNotification, command(kCreate), response_bad_notification},
    {"a notification that failed", kNotification, status(kCancelled), response_bad_notification},
    {"a notification that waits", kNotification, status(kPending), response_bad_notification},
    {"a break under a MessageId nobody used", kNotification, id(kNever), response_unmatched},
    {"a break under a request's MessageId", kNotification, id(kOpened), response_wrong_command},
    // READ.
    {"more data than came", kRdmaChannelReadAnswer, set(68, kLength + 1, 4), bad_body},
    {"more data than 32 bits", kRdmaChannelReadAnswer, set(68, 0xFFFFFFFF, 4), bad_body},
    {"more data than asked", kRdmaChannelReadAnswer,
     [](Bytes& pdu) { pdu = read_response({.message_id = kRdmaChannelRead}, pattern(kLength + 1, 1)); },
     response_too_long},
    {"data behind the end", kRdmaChannelReadAnswer, set(66, 255, 1), bad_body},
    {"data one byte past the end", kRdmaChannelReadAnswer, set(66, 81, 1), bad_body},
    {"data in the header", kRdmaChannelReadAnswer, set(66, 0, 1), bad_body},
    {"data in the body's fixed part", kRdmaChannelReadAnswer, set(66, 79, 1), bad_body},
    {"a body of another size", kRdmaChannelReadAnswer, set(64, 16, 2), bad_structure_size},
    {"success with an error's body", kRdmaChannelReadAnswer, set(64, 9, 2), bad_structure_size},
    {"failure with a READ's body", kRdmaChannelReadAnswer, status(kEndOfFile), bad_structure_size},
    {"a body that is cut", kRdmaChannelReadAnswer, size(79), bad_body},
    {"no body", kRdmaChannelReadAnswer, size(64), bad_body},
    {"signed data to place", kRdmaChannelReadAnswer, flags(kResponse | kSigned),
     signed_rdma_channel_response},
    {"data for a READ that had to fail", kRefusal,
     [](Bytes& pdu) { pdu = read_response({.message_id = kRefusedRead}, pattern(10, 1)); },
     response_too_long},
    {"plain: more data than came", kPlainReadAnswer, set(68, kLength + 1, 4), bad_body},
    {"plain: more data than asked", kPlainReadAnswer,
     [](Bytes& pdu) { pdu = read_response({.message_id = kPlainRead}, pattern(kLength + 1, 1)); },
     response_too_long},
    {"plain: data in the header", kPlainReadAnswer, set(66, 0, 1), bad_body},
    {"plain: success with an error's body", kPlainReadAnswer, set(64, 9, 2), bad_structure_size},
    {"plain: failure with a READ's body", kPlainReadAnswer, status(kEndOfFile), bad_structure_size},
    {"plain: no body", kPlainReadAnswer, size(64), bad_body},
    // WRITE.
    {"more written than asked", kRdmaChannelWriteAnswer, set(68, kLength + 1, 4), response_too_long},
    {"more written than 31 bits", kRdmaChannelWriteAnswer, set(68, 0x80000000, 4), response_too_long},
    {"written, with an error's body", kRdmaChannelWriteAnswer, set(64, 9, 2), bad_structure_size},
    {"not written, with a WRITE's body", kRdmaChannelWriteAnswer, status(kCancelled), bad_structure_size},
    {"written, with a READ's size", kRdmaChannelWriteAnswer, set(64, 16, 2), bad_structure_size},
    {"written, with a body that is cut", kRdmaChannelWriteAnswer, size(79), bad_body},
    {"written, without a body", kRdmaChannelWriteAnswer, size(64), bad_body},
    {"plain: more written than asked", kPlainWriteAnswer, set(68, kLength + 1, 4), response_too_long},
    {"plain: written, with an error's body", kPlainWriteAnswer, set(64, 9, 2), bad_structure_size},
    // Compounds.
    {"NextCommand into the header", kCompound, set(20, 56, 4), bad_next_command},
    {"NextCommand not on 8", kCompound, set(20, 161, 4), bad_next_command},
    {"NextCommand behind the end", kCompound, set(20, 0x10000, 4), bad_next_command},
    {"NextCommand to the end", kCreateAnswer, set(20, 152, 4), bad_next_command},
    {"a link that skips the body", kCompound, set(20, 64, 4), not_smb2},
    {"in a compound: a request", kCompound, set(kSecond + 16, 0, 4), wrong_direction},
    {"in a compound: another command", kCompound, set(kSecond + 12, kWrite, 2), response_wrong_command},
    {"in a compound: a MessageId nobody used", kCompound, set(kSecond + 24, kNever, 8), response_unmatched},
    {"in a compound: one MessageId twice", kCompound, set(kSecond + 24, kOpened, 8), response_unmatched},
    {"in a compound: before it went", kCompound, set(kSecond + 24, kNotSentRead, 8), response_too_early},
    {"in a compound: data into the next element", kCompound, set(kSecond + 66, 88, 1), bad_body},
    {"in a compound: signed data to place", kCompound, set(kSecond + 16, kResponse | kSigned, 4),
     signed_rdma_channel_response},
    {"in a compound: pending without an AsyncId", kCompound, set(kSecond + 8, kPending, 4),
     response_bad_pending},
    {"in a compound: encrypted", kCompound, set(kSecond, 0x424D53FD, 4), not_smb2},
};

}  // namespace

TEST_CASE("each thing a server may say wrongly ends the connection, and what it was made from passes") {
  for (const Row& row : kRows) {
    INFO(row.what);
    Bytes lie = row.honest;
    if (row.lie) {
      CHECK(judge(row.honest));
      row.lie(lie);
    }
    const auto judged = judge(lie);
    REQUIRE_FALSE(judged);
    CHECK(smb2::violation_text(judged.error()) == smb2::violation_text(row.violation));
  }
}

TEST_CASE("a dialect that was not offered, and a second NEGOTIATE") {
  const auto answer = [](ServerTranslator& server, std::initializer_list<uint16_t> offered, uint16_t chosen) {
    Bytes request = negotiate_request(offered, 1);
    RewrittenRequest out;
    REQUIRE(server.request(request, out));
    server.forwarded(out.ticket);
    const Bytes pdu = negotiate_response(chosen, 8 << 20, 8 << 20, 1);
    return server.response(prefix_of(pdu), pdu.size());
  };
  for (const uint16_t chosen : std::initializer_list<uint16_t>{0x0202, 0x0302, 0x0311, 0x02FF, 0, 0xFFFF}) {
    ServerTranslator server({});
    CHECK(answer(server, {0x0210, 0x0300, 0x02FF}, chosen).error() == Violation::response_bad_dialect);
    CHECK(server.dialect() == 0);
  }
  ServerTranslator server({});
  CHECK(answer(server, {0x0210, 0x0300}, 0x0210));
  CHECK(answer(server, {0x0210, 0x0300}, 0x0300).error() == Violation::response_bad_dialect);
  CHECK(server.dialect() == 0x0210);
  // A failure changes nothing, also the second time.
  for (const uint16_t body : {uint16_t{64}, uint16_t{66}}) {
    ServerTranslator other({});
    Bytes request = negotiate_request({0x0302});
    RewrittenRequest out;
    REQUIRE(other.request(request, out));
    other.forwarded(out.ticket);
    Bytes pdu = negotiate_response(0x0302);
    put(pdu, 64, body, 2);
    CHECK(other.response(prefix_of(pdu), pdu.size()).error() == Violation::bad_structure_size);
    pdu = cut(negotiate_response(0x0302), 103);
    CHECK(other.response(pdu, pdu.size()).error() == Violation::bad_body);
    CHECK(other.dialect() == 0);
  }
}

TEST_CASE("what a server says that is odd, and honest, passes") {
  // smbd copies the request's flags: a stray ASYNC is in the answer, without an interim response before it.
  CHECK(
      judge(error_response(kRead, {.message_id = kPlainRead, .flags = kAsync, .status = kInvalidParameter})));
  CHECK(judge(Scene::interim(kChangeNotify, kWaiting)));  // said twice
  CHECK(judge(write_response({.message_id = kRdmaChannelWrite}, 0)));
  CHECK(judge(read_response({.message_id = kPlainRead}, {})));
  CHECK(judge(error_response(kRead, {.message_id = kPlainRead, .status = kBufferOverflow})));
  CHECK(judge(chain({kCreateAnswer, kInterim})));
}

}  // namespace smb2_test
