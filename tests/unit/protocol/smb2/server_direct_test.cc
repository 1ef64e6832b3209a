// SPDX-License-Identifier: MIT
// Requests answered here, through the translator: what may be, what the answer gets, what smbd is told, and
// what becomes of its answers.
#include <doctest/doctest.h>

#include "tests/unit/protocol/smb2/build_pdu.h"
#include "tests/unit/protocol/smb2/server_fixture.h"

namespace smb2_test {

using smb2::ResponsePlan;
using smb2::SequenceLedger;
using smb2::Violation;
using Kind = smb2::ResponsePlan::Kind;

namespace {

constexpr uint32_t kLargeMtu = 4;

Bytes with_credits(Bytes pdu, uint64_t credits) {
  put(pdu, 14, credits, 2);
  return pdu;
}

/// A connection whose MessageIds and credits are right from the first: NEGOTIATE is 0, SESSION_SETUP 1, and
/// the client's next is 2.
struct Server : smb2::ServerTranslator {
  explicit Server(uint32_t capabilities = kLargeMtu, uint64_t credits = 1000) : ServerTranslator(Limits{}) {
    Bytes agreed = negotiate_response(0x0302);
    put(agreed, 88, capabilities, 4);
    ask(*this, negotiate_request({0x0302}), agreed);
    ask(*this, plain(kSessionSetup, {.message_id = 1}, 24),
        with_credits(plain(kSessionSetup, {.message_id = 1, .flags = kResponse}, 8), credits));
  }
  /// As it waits for its turn.
  smb2::DirectRequest gather(const Bytes& pdu) {
    sent = exact(pdu);
    const auto direct = direct_request(sent, sent.size());
    REQUIRE(direct);
    REQUIRE(request(sent, out));
    return *direct;
  }
  smb2::AnsweredHere here(const Bytes& pdu) {
    const auto direct = gather(pdu);
    REQUIRE(begin_here(out.ticket, direct));
    return answered_here(out.ticket, direct);
  }
  std::vector<std::pair<uint64_t, uint64_t>> told() {  // first id, how many
    Bytes bytes(10 * SequenceLedger::kEchoBytes);
    const size_t size = ledger().tell(bytes);
    std::vector<std::pair<uint64_t, uint64_t>> echoes;
    for (size_t at = 0; at < size; at += SequenceLedger::kEchoBytes)
      echoes.emplace_back(get(bytes, at + 4 + 24, 8), get(bytes, at + 4 + 6, 2));
    return echoes;
  }
  auto hear(const Bytes& pdu) { return response(prefix_of(pdu), pdu.size()); }
  Bytes sent;
  smb2::RewrittenRequest out;
};

Bytes read_by_rdma(uint64_t id, uint16_t charge = 1, uint32_t channel = 2) {
  return read_request({.message_id = id, .credit_charge = charge},
                      {.length = 100, .channel = channel, .memory = kThreeDescriptors});
}
Bytes write_by_rdma(uint64_t id) {
  return write_request({.message_id = id}, {.length = 100, .channel = 2, .memory = kThreeDescriptors});
}
Bytes echo_answer(uint64_t id, uint64_t credits, uint32_t status = 0, uint32_t flags = 0) {
  return with_credits(plain(kEcho, {.message_id = id, .flags = kResponse | flags, .status = status}),
                      credits);
}

using Told = std::vector<std::pair<uint64_t, uint64_t>>;

}  // namespace

TEST_CASE("a READ by RDMA that is answered here") {
  Server server;
  const auto here = server.here(read_by_rdma(2, 3));
  CHECK(here.credits == 3);
  CHECK(here.invalidate == kThreeDescriptors[0].token);
  check_same(here.to, kThreeDescriptors);
  CHECK(here.released == server.out.reply_bytes);
  CHECK(server.in_flight() == 0);
  CHECK(server.told() == Told{{2, 3}});
  const auto plan = server.hear(echo_answer(2, 3));
  REQUIRE(plan);
  CHECK(plan->kind == Kind::swallow);
  CHECK(plan->released == 0);
  CHECK_FALSE(plan->answered);
  CHECK_FALSE(plan->invalidate);
  CHECK(server.hear(echo_answer(2, 3)).error() == Violation::response_unmatched);
}

TEST_CASE("smbd does a READ by RDMA whose client was told that it takes time: the answer is asynchronous") {
  Server server;
  auto direct = server.gather(read_by_rdma(2));
  REQUIRE(server.begin_here(server.out.ticket, direct));
  const auto interim = smb2::answer_interim(direct, server.sent);
  CHECK(direct.told);
  const Bytes said(interim.span().begin(), interim.span().end());
  Bytes expected = interim_response(kRead, {.message_id = 2});
  put(expected, 14, 0, 2);  // credits
  put(expected, 32, 2, 8);
  CHECK(said == expected);
  server.told_pending(server.out.ticket);
  server.forwarded(server.out.ticket);
  SUBCASE("with data, which is placed") {
    const auto plan = server.hear(read_response({.message_id = 2}, pattern(100, 1)));
    REQUIRE(plan);
    CHECK(plan->kind == Kind::place);
    const Bytes header(plan->header.begin(), plan->header.end());
    CHECK(get(header, 16, 4) == (kResponse | kAsync));
    CHECK(get(header, 32, 8) == 2);
    CHECK(get(header, 72, 4) == 100);  // DataRemaining
  }
  SUBCASE("with an error") {
    const Bytes error = error_response(kRead, {.message_id = 2, .status = kInvalidParameter});
    const auto plan = server.hear(error);
    REQUIRE(plan);
    CHECK(plan->kind == Kind::pass);
    CHECK(plan->told);
    const Bytes header(plan->header.begin(), plan->header.begin() + 64);
    CHECK(get(header, 8, 4) == kInvalidParameter);
    CHECK(get(header, 16, 4) == (kResponse | kAsync));
    CHECK(get(header, 32, 8) == 2);
  }
  SUBCASE("with one that is asynchronous already") {
    Bytes own = interim_response(kRead, {.message_id = 2});
    put(own, 32, 2, 8);
    REQUIRE(server.hear(own));
    Bytes error = error_response(kRead, {.message_id = 2, .flags = kAsync, .status = kInvalidParameter});
    put(error, 32, 2, 8);
    const auto plan = server.hear(error);
    REQUIRE(plan);
    CHECK_FALSE(plan->told);
  }
  CHECK(server.in_flight() == 0);
}

TEST_CASE("a WRITE, and one without a token") {
  Server server;
  const auto write = server.here(write_by_rdma(2));
  CHECK(write.invalidate == kThreeDescriptors[0].token);
  CHECK(write.to.empty());
  CHECK(write.released == 256);
  CHECK_FALSE(server.here(read_by_rdma(3, 1, 1)).invalidate);
}

TEST_CASE("requests in the PDU itself") {
  Server server;
  const auto read = server.here(read_request({.message_id = 2}, {.length = 4096}));
  CHECK_FALSE(read.invalidate);
  CHECK(read.to.empty());
  CHECK(read.released == 4096);
  const Bytes write = write_request({.message_id = 3}, {.data = pattern(5000, 1)});
  const auto direct = server.direct_request(prefix_of(write), write.size());
  REQUIRE(direct);
  const auto info = server.classify(prefix_of(write), write.size());
  REQUIRE(info);
  const auto ticket = server.note(*info);
  REQUIRE(ticket);
  REQUIRE(server.begin_here(*ticket, *direct));
  CHECK(server.answered_here(*ticket, *direct).released == info->reply_bytes);
  CHECK(server.told() == Told{{2, 2}});
}

TEST_CASE("an id is free again when it was answered") {
  Server server;
  (void)server.here(read_by_rdma(2));
  Bytes again = read_by_rdma(2);
  const auto direct = server.direct_request(again, again.size());
  REQUIRE(direct);
  REQUIRE(server.request(again, server.out));
  CHECK_FALSE(server.begin_here(server.out.ticket, *direct));  // it is for smbd to end this
}

TEST_CASE("what goes to smbd after all is forwarded as ever") {
  Server server;
  const auto direct = server.gather(read_by_rdma(2, 2));
  CHECK(server.begin_here(server.out.ticket, direct));
  server.forwarded(server.out.ticket, 5);
  CHECK_FALSE(server.ledger().owes());
  const auto plan = server.hear(read_response({.message_id = 2}, pattern(100, 1)));
  REQUIRE(plan);
  CHECK(plan->kind == Kind::place);
  CHECK(plan->answered->forwarded_at == 5);
  // The ids that it took are smbd's.
  (void)server.here(read_by_rdma(4));
  CHECK(server.told() == Told{{4, 1}});
}

TEST_CASE("who may not") {
  const Bytes pdu = read_by_rdma(2);
  smb2::ServerTranslator fresh({});
  CHECK_FALSE(fresh.direct_request(pdu, pdu.size()));
  negotiate(fresh, 0x0302);
  CHECK_FALSE(fresh.direct_request(pdu, pdu.size()));  // no session

  Server server;
  CHECK(server.direct_request(pdu, pdu.size()));
  const Bytes large = read_request({.message_id = 2, .credit_charge = 200},
                                   {.length = (8 << 20) + 1, .channel = 1, .memory = {{0, 1, 16 << 20}}});
  CHECK_FALSE(server.direct_request(large, large.size()));
  // Another of the client's channels was lost.
  (void)server.here(read_request({.message_id = 2, .status = 3}, {.length = 100}));
  const Bytes older = read_request({.message_id = 3, .status = 2}, {.length = 100});
  CHECK_FALSE(server.direct_request(older, older.size()));
  const Bytes same = read_request({.message_id = 3, .status = 3}, {.length = 100});
  CHECK(server.direct_request(same, same.size()));
}

TEST_CASE("charges and credits that the ledger sees") {
  SUBCASE("a request streamed, with its charge") {
    Server server;
    const Bytes pdu = read_request({.message_id = 2, .credit_charge = 5}, {.length = 100});
    const auto info = server.classify(prefix_of(pdu), pdu.size());
    REQUIRE(info);
    server.forwarded(server.note(*info).value());
    CHECK(server.here(read_by_rdma(7)).credits == 1);
  }
  SUBCASE("each of a compound") {
    Server server;
    Bytes pdu = chain({plain(kCreate, {.message_id = 2}, 56), plain(kClose, {.message_id = 3}, 24)});
    REQUIRE(server.request(pdu, server.out));
    server.forwarded(server.out.ticket);
    CHECK(server.here(read_by_rdma(4)).credits == 1);
  }
  SUBCASE("a CANCEL takes none") {
    Server server;
    const Bytes pdu = plain(kCancel, {.message_id = 900});
    const auto info = server.classify(prefix_of(pdu), pdu.size());
    server.forwarded(server.note(*info).value());
    CHECK(server.here(read_by_rdma(2)).credits == 1);
  }
  SUBCASE("a carrier takes the charge of the READ") {
    Server server;
    server.sent = read_by_rdma(2, 4);
    REQUIRE(server.request_by_area(server.sent, {}, server.out));
    server.forwarded(server.out.ticket);
    CHECK(server.here(read_by_rdma(6)).credits == 1);
  }
  SUBCASE("without multi-credit each takes one") {
    Server server(0);
    const auto direct = server.gather(read_by_rdma(2, 9));
    CHECK(direct.charge == 1);
    server.forwarded(server.out.ticket);
    CHECK(server.here(read_by_rdma(3, 9)).credits == 1);
    CHECK(server.told() == Told{{3, 0}});
  }
  SUBCASE("every answer's credits: interim, of a compound, of an error") {
    Server server(kLargeMtu, 4);
    const auto may = [&](uint64_t id) {  // not beyond what was granted; ids below are on their way
      return server.ledger().room(id, 1);
    };
    Bytes pdu = chain({plain(kCreate, {.message_id = 2}, 56), plain(kClose, {.message_id = 3}, 24)});
    REQUIRE(server.request(pdu, server.out));
    server.forwarded(server.out.ticket);
    server.sent = plain(kChangeNotify, {.message_id = 4}, 32);
    REQUIRE(server.request(server.sent, server.out));
    server.forwarded(server.out.ticket);
    CHECK(may(5));
    CHECK_FALSE(may(6));
    REQUIRE(server.hear(with_credits(interim_response(kChangeNotify, {.message_id = 4}), 300)));
    CHECK(may(305));
    CHECK_FALSE(may(306));
    Bytes answers = chain({with_credits(plain(kCreate, {.message_id = 2, .flags = kResponse}, 88), 0),
                           with_credits(plain(kClose, {.message_id = 3, .flags = kResponse}, 60), 20)});
    REQUIRE(server.hear(answers)->kind == Kind::gather);
    CHECK_FALSE(may(306));
    smb2::ChainPlan chain_plan;
    REQUIRE(server.response_chain(answers, chain_plan));
    CHECK(may(325));
    CHECK_FALSE(may(326));
  }
  SUBCASE("what is encrypted hides its id") {
    Server server;
    Bytes pdu = read_by_rdma(9);
    pdu[0] = std::byte{0xFD};
    REQUIRE(server.request(pdu, server.out));
    CHECK(server.ledger().room(2, 1));
    server.forwarded(server.out.ticket);
    CHECK_FALSE(server.ledger().room(2, 1));
  }
}

TEST_CASE("smbd's answers to ECHOs of ours") {
  const auto told = [](Server& server) {
    (void)server.here(read_by_rdma(2));
    CHECK(server.told() == Told{{2, 1}});
  };
  for (const auto& [status, flags] :
       {std::pair{0xC000000Du, 0u}, {0x103u, kAsync}, {0u, kAsync}, {0u, kSigned}}) {
    Server server;
    told(server);
    CHECK(server.hear(echo_answer(2, 1, status, flags)).error() == Violation::response_bad_echo);
  }
  Server server;
  told(server);
  CHECK(server.hear(echo_answer(3, 1)).error() == Violation::response_unmatched);
  CHECK(server.hear(error_response(kRead, {.message_id = 2})).error() == Violation::response_unmatched);
  CHECK(server.hear(echo_answer(2, 1))->kind == Kind::swallow);
  // The client's own is the client's.
  server.sent = plain(kEcho, {.message_id = 3});
  REQUIRE(server.request(server.sent, server.out));
  server.forwarded(server.out.ticket);
  CHECK(server.hear(echo_answer(3, 1))->kind == Kind::pass);
}

TEST_CASE("a READ for whose descriptors there was no room is smbd's to refuse") {
  Server server;
  const auto direct = server.gather(read_by_rdma(2));
  CHECK(server.begin_here(server.out.ticket, direct));
  CHECK_FALSE(server.begin_here({}, direct));
  // Poisoned by another rule: a READ of more than was agreed.
  Bytes refused = read_request({.message_id = 3}, {.length = ~0u, .channel = 1, .memory = kOneDescriptor});
  REQUIRE(server.request(refused, server.out));
  smb2::DirectRequest claimed = direct;
  claimed.message_id = 3;
  CHECK_FALSE(server.begin_here(server.out.ticket, claimed));
}

}  // namespace smb2_test
