// SPDX-License-Identifier: MIT
// A request's life as the server translator sees it: registered, forwarded, perhaps pending, answered; and
// what it costs at each of these.
#include <numeric>

#include <doctest/doctest.h>

#include "tests/unit/protocol/smb2/build_pdu.h"
#include "tests/unit/protocol/smb2/server_fixture.h"

namespace smb2_test {

using smb2::RequestInfo;
using smb2::ResponsePlan;
using smb2::RewrittenRequest;
using smb2::ServerTranslator;
using smb2::Ticket;
using smb2::Violation;

namespace {

constexpr uint64_t kToken = 256;

/// A translator, and what its session has reserved.
struct Line : ServerTranslator {
  explicit Line(const Limits& limits = {}) : ServerTranslator(limits) { agree(*this, 0x0311); }
  RequestInfo classified(const Bytes& pdu) {
    const auto info = classify(prefix_of(pdu), pdu.size());
    REQUIRE(info);
    return *info;
  }
  Ticket noted(const Bytes& pdu) {
    const auto info = classified(pdu);
    const auto ticket = note(info);
    REQUIRE(ticket);
    reserved += info.reply_bytes;
    return *ticket;
  }
  void sent(const Bytes& pdu) { forwarded(noted(pdu)); }
  ResponsePlan answered(const Bytes& pdu) {
    const auto plan = response(prefix_of(pdu), pdu.size());
    REQUIRE(plan);
    REQUIRE(plan->released <= reserved);
    reserved -= plan->released;
    return *plan;
  }
  Violation refusal(const Bytes& pdu) {
    const auto plan = response(prefix_of(pdu), pdu.size());
    REQUIRE_FALSE(plan);
    return plan.error();
  }
  uint64_t reserved = 0;
};

Bytes notify(uint64_t id, uint32_t size) {
  Bytes pdu = plain(kChangeNotify, {.message_id = id}, 32);
  put(pdu, 68, size, 4);
  return pdu;
}

Bytes encrypted(size_t size) {
  Bytes pdu = pattern(size, 5);
  put(pdu, 0, 0x424D53FD, 4);
  return pdu;
}

}  // namespace

TEST_CASE("an early answer cannot reach the descriptors of a WRITE that is still being fetched") {
  // As many of the largest size as the table keeps for READs, and more.
  std::vector<BufferDescriptor> memory(2048);
  for (uint32_t i = 0; i < memory.size(); ++i) memory[i] = {0x1000u * i, 1 + i, 4096};
  std::vector<Bytes> pdus;
  std::vector<RewrittenRequest> outs(70);
  Line line;
  for (uint64_t i = 0; i < outs.size(); ++i) {
    pdus.push_back(write_request({.message_id = 1 + i}, {.length = 8 << 20, .channel = 1, .memory = memory}));
    REQUIRE(line.request(pdus.back(), outs[i]));
  }
  CHECK(line.refused_requests() == 0);
  for (const Bytes& early :
       {error_response(kWrite, {.message_id = 1, .status = 0xC0000022}),
        write_response({.message_id = 1}, 8 << 20), interim_response(kWrite, {.message_id = 1})}) {
    CHECK(line.refusal(early) == Violation::response_too_early);
    Bytes next =
        write_request({.message_id = 1000}, {.length = 32768, .channel = 1, .memory = {{7, 7, 32768}}});
    Line other;
    RewrittenRequest out;
    REQUIRE(other.request(next, out));
  }
  for (const RewrittenRequest& out : outs) check_same(memory_of(out.fetches.at(0)), memory);
  CHECK_FALSE(outs[0].fetches[0].descriptor(2048));
  CHECK_FALSE(outs[0].fetches[0].descriptor(SIZE_MAX));
  // Once it has gone, an answer is one; what is behind it still waits.
  line.forwarded(outs[0].ticket);
  CHECK(line.response(write_response({.message_id = 1}, 8 << 20), 80));
  CHECK(line.refusal(write_response({.message_id = 2}, 8 << 20)) == Violation::response_too_early);
}

TEST_CASE("requests may overtake each other: each is answerable by itself, a compound as a whole") {
  Line line;
  Bytes write = write_request({.message_id = 1}, {.length = 100, .channel = 1, .memory = kThreeDescriptors});
  RewrittenRequest slow;
  REQUIRE(line.request(write, slow));
  line.sent(read_request({.message_id = 2}, {.length = 10}));  // passes
  line.answered(read_response({.message_id = 2}, pattern(10, 1)));
  Bytes pdu = chain({plain(kCreate, {.message_id = 3}, 57), plain(kEcho, {.message_id = 4}),
                     plain(kClose, {.message_id = 5}, 24)});
  RewrittenRequest compound;
  REQUIRE(line.request(pdu, compound));
  for (const auto& [command, id] : {std::pair{kCreate, 3}, {kEcho, 4}, {kClose, 5}, {kWrite, 1}})
    CHECK(line.refusal(error_response(command, {.message_id = static_cast<uint64_t>(id),
                                                .status = kCancelled})) == Violation::response_too_early);
  line.forwarded(compound.ticket);
  line.reserved += compound.reply_bytes + slow.reply_bytes;
  for (const auto& [command, id] : {std::pair{kClose, 5}, {kCreate, 3}, {kEcho, 4}})
    line.answered(error_response(command, {.message_id = static_cast<uint64_t>(id), .status = kCancelled}));
  line.forwarded(slow.ticket);
  line.answered(write_response({.message_id = 1}, 100));
  CHECK(line.in_flight() == 0);
  CHECK(line.reserved == 0);
}

TEST_CASE("what waits keeps a token of what was reserved") {
  Line line;
  const auto pending = [&](uint16_t command, uint64_t id) {
    Bytes interim = interim_response(command, {.message_id = id});
    put(interim, 32, id, 8);
    return line.answered(interim).released;
  };
  line.sent(notify(1, 1 << 20));
  line.sent(read_request({.message_id = 2}, {.length = 8 << 20}));
  line.sent(plain(kLock, {.message_id = 3, .credit_charge = 4}, 48));
  CHECK(line.reserved == (1 << 20) + (8 << 20) + kToken);
  CHECK(pending(kChangeNotify, 1) == (1 << 20) - kToken);
  CHECK(pending(kChangeNotify, 1) == 0);  // said twice
  CHECK(pending(kRead, 2) == 0);          // its data is as near as before
  CHECK(pending(kLock, 3) == 0);
  CHECK(line.reserved == (8 << 20) + 2 * kToken);
  Bytes end = read_response({.message_id = 2, .flags = kAsync}, pattern(100, 1));
  put(end, 32, 2, 8);
  CHECK(line.answered(end).released == 8 << 20);

  SUBCASE("folders that are watched, and locks that are waited for, by the thousand") {
    for (uint64_t id = 10; id < 3010; ++id) {
      line.sent(id % 2 ? notify(id, 65536) : plain(kLock, {.message_id = id}, 48));
      (void)pending(id % 2 ? kChangeNotify : kLock, id);
    }
    CHECK(line.reserved == 3002 * kToken);
  }
  SUBCASE("in a compound, its last element") {
    Bytes pdu = chain({plain(kCreate, {.message_id = 20}, 57), notify(21, 65536)});
    RewrittenRequest out;
    REQUIRE(line.request(pdu, out));
    line.forwarded(out.ticket);
    CHECK(out.reply_bytes == 2 * 65536);
    Bytes answer = chain({plain(kCreate, {.message_id = 20, .flags = kResponse}, 89),
                          interim_response(kChangeNotify, {.message_id = 21})});
    smb2::ChainPlan plan;
    REQUIRE(line.response_chain(answer, plan));
    CHECK(plan.released == 2 * 65536 - kToken);
  }
}

TEST_CASE("an answer says when its request went to smbd, unless smbd kept it waiting") {
  Line line;
  line.forwarded(line.noted(read_request({.message_id = 1}, {.length = 100})), 1000);
  line.forwarded(line.noted(plain(kLock, {.message_id = 2}, 48)), 2000);
  line.forwarded(line.noted(plain(kEcho, {.message_id = 3})), 3000);
  const auto read = line.answered(read_response({.message_id = 1}, pattern(100, 1)));
  REQUIRE(read.answered);
  CHECK(read.answered->command == smb2::Command::read);
  CHECK(read.answered->forwarded_at == 1000);
  Bytes interim = interim_response(kLock, {.message_id = 2});
  put(interim, 32, 2, 8);
  CHECK_FALSE(line.answered(interim).answered);
  Bytes late = plain(kLock, {.message_id = 2, .flags = kResponse | kAsync});
  put(late, 32, 2, 8);
  CHECK_FALSE(line.answered(late).answered);
  const auto echo = line.answered(plain(kEcho, {.message_id = 3, .flags = kResponse}));
  REQUIRE(echo.answered);
  CHECK(echo.answered->forwarded_at == 3000);
  // Of a compound each that is answered.
  Bytes pdu = chain({plain(kCreate, {.message_id = 20}, 57), notify(21, 65536)});
  RewrittenRequest out;
  REQUIRE(line.request(pdu, out));
  line.forwarded(out.ticket, 4000);
  Bytes answer = chain({plain(kCreate, {.message_id = 20, .flags = kResponse}, 89),
                        interim_response(kChangeNotify, {.message_id = 21})});
  smb2::ChainPlan plan;
  REQUIRE(line.response_chain(answer, plan));
  REQUIRE(plan.answered.size() == 1);
  CHECK(plan.answered[0].command == smb2::Command::create);
  CHECK(plan.answered[0].forwarded_at == 4000);
}

TEST_CASE("a CANCEL costs nothing, plain, encrypted or in a compound") {
  Line line;
  for (uint64_t i = 0; i < 2000; ++i) {
    line.sent(plain(kCancel, {.message_id = i % 7}));
    line.sent(encrypted(52 + 68));
  }
  CHECK(line.reserved == 0);
  CHECK(line.in_flight() == 0);
  // smbd drops a compound with a CANCEL in it, and answers nothing of it.
  Bytes pdu =
      chain({notify(1, 1 << 20), plain(kCancel, {.message_id = 9}), plain(kCreate, {.message_id = 2}, 57)});
  RewrittenRequest out;
  REQUIRE(line.request(pdu, out));
  CHECK(out.reply_bytes == 2 * kToken);
  // Others may answer it all the same.
  line.forwarded(out.ticket);
  line.reserved += out.reply_bytes;
  line.answered(error_response(kCreate, {.message_id = 2, .status = kCancelled}));
  line.answered(error_response(kChangeNotify, {.message_id = 1, .status = kCancelled}));
  CHECK(line.reserved == 0);
}

TEST_CASE("encrypted requests reserve a bounded sum, and each encrypted answer gives one's back") {
  Line line({.max_opaque_bytes = 10 * 65536 + 1000});
  for (int i = 0; i < 500; ++i) line.sent(encrypted(300));
  CHECK(line.reserved == 10 * 65536 + 1000);
  line.answered(encrypted(200));
  CHECK(line.reserved == 9 * 65536 + 1000);
  line.sent(encrypted(300));
  CHECK(line.reserved == 10 * 65536 + 1000);
  for (int i = 0; i < 600; ++i) line.answered(encrypted(200));
  CHECK(line.reserved == 0);
  CHECK(line.in_flight() == 0);
}

TEST_CASE("a CANCEL that is refused is no answer to the request it names") {
  // smbd, signing mandatory, and a CANCEL without a signature: ACCESS_DENIED under the READ's MessageId.
  Line line;
  const Bytes refused = error_response(kCancel, {.message_id = 5, .status = 0xC0000022});
  line.sent(read_request({.message_id = 5}, {.length = 4096}));
  Bytes interim = interim_response(kRead, {.message_id = 5});
  line.answered(interim);
  const Ticket cancel = line.noted(plain(kCancel, {.message_id = 5}));
  CHECK(line.refusal(refused) == Violation::response_unmatched);  // not before it went
  line.forwarded(cancel);
  const auto plan = line.answered(refused);
  CHECK(plan.kind == ResponsePlan::Kind::pass);
  CHECK(plan.released == 0);
  CHECK(line.in_flight() == 1);
  CHECK(line.refusal(refused) == Violation::response_unmatched);  // one CANCEL, one refusal
  const Bytes data = read_response({.message_id = 5, .flags = kAsync}, pattern(68, 1));
  line.answered(data);
  CHECK(line.reserved == 0);
  // It is refused also when the request is done, or names it by AsyncId only.
  line.sent(plain(kCancel, {.message_id = 0, .flags = kAsync}));
  line.answered(error_response(kCancel, {.message_id = 0, .status = 0xC0000022}));
  line.sent(plain(kCancel, {.message_id = 5}));
  CHECK(line.refusal(error_response(kCancel, {.message_id = 5})) ==
        Violation::response_unmatched);  // success
}

TEST_CASE("as many requests may wait as smbd lets wait; the table has a bound of its own") {
  Line line;
  for (uint64_t id = 1; id <= 65536; ++id) line.sent(plain(kEcho, {.message_id = id}));
  CHECK(line.in_flight() == 65536);
  CHECK(line.reserved == 65536 * kToken);
  const Bytes more = plain(kEcho, {.message_id = 65537});
  CHECK(line.note(line.classified(more)).error() == Violation::too_many_requests);
  for (uint64_t id = 65536; id >= 1; --id)
    line.answered(plain(kEcho, {.message_id = id, .flags = kResponse}));
  CHECK(line.reserved == 0);
}

TEST_CASE("a session is there once smbd has granted one; before, nothing is fetched or placed") {
  const auto set_up = [](uint32_t status, uint32_t flags = kResponse) {
    return plain(kSessionSetup, {.message_id = 3, .flags = flags, .status = status}, 8);
  };
  ServerTranslator server({});
  negotiate(server, 0x0302);
  CHECK_FALSE(server.has_session());
  const Io io{.length = 4096, .channel = 1, .memory = {{0, 1, 4096}}};
  RewrittenRequest out;
  Bytes write = write_request({.message_id = 1}, io);
  REQUIRE(server.request(write, out));
  CHECK(out.fetches.empty());
  CHECK(out.reply_bytes == kToken);
  Bytes read = read_request({.message_id = 2}, io);
  REQUIRE(server.request(read, out));
  CHECK(out.reply_bytes == kToken);
  CHECK(server.refused_requests() == 2);
  server.forwarded(out.ticket);
  const Bytes deleted = error_response(kRead, {.message_id = 2, .status = 0xC0000203});
  CHECK(server.response(prefix_of(deleted), deleted.size()));

  Bytes first = plain(kSessionSetup, {.message_id = 3}, 24);
  REQUIRE(server.request(first, out));
  server.forwarded(out.ticket);
  SUBCASE("not yet") {
    const Bytes more = set_up(0xC0000016);  // MORE_PROCESSING_REQUIRED
    const auto plan = server.response(more, more.size());
    REQUIRE(plan);
    CHECK_FALSE(plan->session_set_up);
    CHECK_FALSE(server.has_session());
  }
  SUBCASE("granted") {
    const Bytes granted = set_up(0);
    const auto plan = server.response(granted, granted.size());
    REQUIRE(plan);
    CHECK(plan->session_set_up);
    CHECK(server.has_session());
    Bytes again = write_request({.message_id = 4}, io);
    REQUIRE(server.request(again, out));
    CHECK(out.fetches.size() == 1);
  }
  SUBCASE("granted in a compound") {
    Bytes granted = chain({set_up(0), plain(18, {.message_id = ~uint64_t{0}, .flags = kResponse}, 24)});
    smb2::ChainPlan plan;
    CHECK(server.response_chain(granted, plan));
    CHECK(plan.session_set_up);
    CHECK(server.has_session());
  }
}

}  // namespace smb2_test
