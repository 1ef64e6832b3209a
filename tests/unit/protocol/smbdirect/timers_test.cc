// SPDX-License-Identifier: MIT
#include "protocol/smbdirect/timers.h"

#include <algorithm>

#include <doctest/doctest.h>

#include "tests/unit/protocol/smbdirect/peer.h"

namespace smbdirect::protocol::smb_direct::test {
namespace {

constexpr uint16_t kAsk = DataTransfer::kResponseRequested;

/// A server with credits to send, last heard of at 0.
Engine talking_server(const Limits& limits = {}) {
  Engine engine = established_server(limits);
  feed(engine, {.granted = 100});
  CHECK_FALSE(next(engine, 0).has_value());
  return engine;
}

/// What MS-SMBD says of the Send Credit Grant Timer.
Limits five_seconds() {
  Limits limits;
  limits.send_credit_timeout = 5000;
  return limits;
}

void check_timeout(Engine& engine, Millis now, Fault fault) {
  const auto before = engine.tick(now - 1);
  REQUIRE(before.has_value());
  const auto ticked = engine.tick(now);
  REQUIRE_FALSE(ticked.has_value());
  CHECK(fault_name(ticked.error()) == fault_name(fault));
  CHECK(engine.phase() == Phase::closed);
  CHECK(engine.next_deadline() == kNever);
}

}  // namespace

TEST_CASE("NegotiationTimer: a request after 4.999 s is taken, none within 5 s is the end") {
  Engine engine(Role::passive, {}, 1000);
  post(engine);
  CHECK(engine.next_deadline() == 6000);
  REQUIRE(engine.tick(5999).has_value());
  REQUIRE(engine.receive(encode(basic_request()), 5999).has_value());
  REQUIRE(next(engine, 5999).has_value());
  CHECK(engine.tick(6000).has_value());

  Engine silent(Role::passive, {}, 1000);
  post(silent);
  check_timeout(silent, 6000, Fault::negotiate_timeout);
}

TEST_CASE("active: the response has 5 s from the request") {
  Engine engine(Role::active, {}, 0);
  CHECK(engine.next_deadline() == 5000);
  REQUIRE(next(engine, 3000).has_value());
  CHECK(engine.next_deadline() == 8000);
  check_timeout(engine, 8000, Fault::negotiate_timeout);
}

TEST_CASE("IdleConnection_Client: RESPONSE_REQUESTED is answered promptly, without the flag, once") {
  Engine engine = talking_server();
  feed(engine, {.flags = kAsk}, 10);
  const auto answer = next(engine, 10);
  REQUIRE(answer.has_value());
  CHECK(data_of(*answer).flags == 0);
  CHECK_FALSE(next(engine, 10).has_value());
}

TEST_CASE("RESPONSE_REQUESTED is answered by queued data; asked often before an answer, one is enough") {
  Engine engine = talking_server();
  feed(engine, {.flags = kAsk}, 10);
  feed(engine, {.flags = kAsk, .length = 5}, 10);
  REQUIRE(engine.begin(5));
  const auto answer = next(engine, 10, 5);
  REQUIRE(answer.has_value());
  CHECK(answer->payload == 5);
  CHECK(data_of(*answer).flags == 0);
  CHECK_FALSE(next(engine, 10).has_value());
}

TEST_CASE("RESPONSE_REQUESTED without a credit to answer with is answered when one comes") {
  Engine engine = established_server();
  feed(engine, {.flags = kAsk}, 10);
  CHECK_FALSE(next(engine, 10).has_value());
  CHECK(engine.next_deadline() == 120'010);
  feed(engine, {.granted = 2}, 20);
  CHECK(next(engine, 20).has_value());
  CHECK_FALSE(next(engine, 20).has_value());
}

TEST_CASE("IdleConnection_Server: after 120 s of silence we ask; any message is an answer") {
  Engine engine = talking_server();
  CHECK(engine.next_deadline() == 120'000);
  REQUIRE(engine.tick(119'999).has_value());
  CHECK_FALSE(next(engine, 119'999).has_value());
  REQUIRE(engine.tick(120'000).has_value());
  const auto probe = next(engine, 120'000);
  REQUIRE(probe.has_value());
  CHECK(data_of(*probe).flags == kAsk);
  CHECK_FALSE(next(engine, 120'000).has_value());
  CHECK(engine.next_deadline() == 125'000);
  feed(engine, {}, 124'999);
  CHECK(engine.next_deadline() == 244'999);
  REQUIRE(engine.tick(125'000).has_value());
}

TEST_CASE("IdleConnection_Server_Timeout: no answer within 5 s is the end") {
  Engine engine = talking_server();
  REQUIRE(engine.tick(120'000).has_value());
  REQUIRE(next(engine, 120'003).has_value());
  check_timeout(engine, 125'003, Fault::keepalive_timeout);
}

TEST_CASE("the question rides on data that is going out") {
  Engine engine = talking_server();
  REQUIRE(engine.tick(120'000).has_value());
  REQUIRE(engine.begin(2000));
  const auto first = next(engine, 120'000, 2000);
  REQUIRE(first.has_value());
  CHECK(first->payload == 1000);
  CHECK(data_of(*first).flags == kAsk);
  const auto second = next(engine, 120'000, 1000);
  REQUIRE(second.has_value());
  CHECK(data_of(*second).flags == 0);
}

TEST_CASE("active: idle and keepalive work the same way") {
  Engine engine = established_client();
  REQUIRE(next(engine, 7).has_value());
  CHECK_FALSE(next(engine, 7).has_value());
  CHECK(engine.next_deadline() == 120'007);
  REQUIRE(engine.tick(120'007).has_value());
  const auto probe = next(engine, 120'007);
  REQUIRE(probe.has_value());
  CHECK(data_of(*probe).flags == kAsk);
  check_timeout(engine, 125'007, Fault::keepalive_timeout);
}

TEST_CASE("a peer that vanishes while its grants are held is found as any other") {
  Engine engine = talking_server();
  engine.hold_grants(true);
  CHECK_FALSE(next(engine, 100'000).has_value());
  CHECK(engine.next_deadline() == 120'000);
  REQUIRE(engine.tick(120'000).has_value());
  const auto probe = next(engine, 120'000);
  REQUIRE(probe.has_value());
  CHECK(data_of(*probe).flags == kAsk);
  check_timeout(engine, 125'000, Fault::keepalive_timeout);
}

TEST_CASE("held, and the peer has used what it had: the one credit is granted, and then it is probed") {
  Engine engine = talking_server();
  engine.hold_grants(true);
  Millis now = 1000;
  while (engine.credits().granted > 0) feed(engine, {.granted = 1, .length = 1}, now);
  CHECK(engine.next_deadline() <= now);  // the grant
  const auto grant = next(engine, now);
  REQUIRE(grant.has_value());
  CHECK(data_of(*grant).credits_granted == 1);
  CHECK(engine.credits().granted == 1);
  CHECK_FALSE(next(engine, now).has_value());
  CHECK(engine.next_deadline() == 121'000);
  REQUIRE(engine.tick(121'000).has_value());
  REQUIRE(next(engine, 121'000).has_value());
  check_timeout(engine, 126'000, Fault::keepalive_timeout);
}

TEST_CASE("what only sending meets is no deadline while nothing can be sent") {
  Engine engine = talking_server();
  engine.hold_grants(true);
  while (engine.credits().granted > 0) feed(engine, {.granted = 1, .length = 1}, 1000);
  CHECK(engine.next_deadline(true) <= 1000);
  CHECK(engine.next_deadline(false) > 1000);
}

TEST_CASE("slow is not dead: while bytes move, what is awaited has its whole time again") {
  Engine engine = talking_server();
  REQUIRE(engine.tick(120'000).has_value());
  REQUIRE(next(engine, 120'000).has_value());  // the probe
  engine.peer_moves(124'000);
  REQUIRE(engine.tick(125'000).has_value());
  check_timeout(engine, 129'000, Fault::keepalive_timeout);

  Engine waiting = established_server(five_seconds());
  feed(waiting, {.granted = 1, .length = 100}, 1000);
  REQUIRE(waiting.begin(5000));
  REQUIRE(next(waiting, 1000, 5000).has_value());
  CHECK_FALSE(next(waiting, 2000, 4000).has_value());
  waiting.peer_moves(6000);
  REQUIRE(waiting.tick(7000).has_value());
  check_timeout(waiting, 11'000, Fault::send_credit_timeout);
}

TEST_CASE("the peer's credits can be limited below what was configured, and given back") {
  Limits limits;
  limits.receive_credit_initial = 8;
  limits.receive_credit_max = 64;
  Engine engine = talking_server(limits);
  engine.limit_receive_credits(8);
  for (int i = 0; i < 200; ++i) {
    if (engine.credits().granted > 0) feed(engine, {.requested = 100, .granted = 2, .length = 1}, 10);
    post(engine);
    while (next(engine, 1000)) {
    }
    CHECK(engine.credits().granted <= 8);
  }
  engine.limit_receive_credits(UINT16_MAX);
  uint16_t most = 0;
  for (int i = 0; i < 400; ++i) {
    if (engine.credits().granted > 0) feed(engine, {.requested = 100, .granted = 2, .length = 1}, 10);
    post(engine);
    if (engine.credits().granted > 1) continue;
    while (next(engine, 1000)) {
    }
    most = std::max(most, engine.credits().granted);
  }
  CHECK(most > 30);
}

TEST_CASE("while the peer holds no credit the idle clock stands") {
  Engine engine = established_server();
  for (int i = 0; i < 10; ++i) feed(engine, {.granted = 10}, 50);
  // Nothing is posted: nothing can be granted.
  CHECK(engine.credits().granted == 0);
  engine.hold_grants(true);
  CHECK(engine.next_deadline() != 120'050);
  REQUIRE(engine.tick(400'000).has_value());
}

TEST_CASE("ConsumeAllCreditServer_Timeout: data waits 5 s for a send credit, then the end") {
  Engine engine = established_server(five_seconds());
  feed(engine, {.granted = 1, .length = 100}, 1000);
  REQUIRE(engine.begin(5000));
  REQUIRE(next(engine, 1000, 5000).has_value());
  CHECK_FALSE(next(engine, 2000, 4000).has_value());
  CHECK(engine.next_deadline() == 7000);
  check_timeout(engine, 7000, Fault::send_credit_timeout);
}

TEST_CASE("Send Credit Grant Timer: a grant in time stops it; a later wait counts anew") {
  Engine engine = established_server(five_seconds());
  feed(engine, {.granted = 1, .length = 100}, 1000);
  REQUIRE(engine.begin(5000));
  REQUIRE(next(engine, 1000, 5000).has_value());
  CHECK_FALSE(next(engine, 2000, 4000).has_value());
  feed(engine, {.granted = 1}, 6999);
  REQUIRE(engine.tick(7000).has_value());
  REQUIRE(next(engine, 7000, 4000).has_value());
  CHECK_FALSE(next(engine, 7100, 3000).has_value());
  CHECK(engine.next_deadline() == 12'100);
  check_timeout(engine, 12'100, Fault::send_credit_timeout);
}

TEST_CASE(
    "Send Credit Grant Timer: the last credit, when there is nothing to grant with it, is waited on "
    "like "
    "none") {
  Engine engine = established_server(five_seconds());
  feed(engine, {.granted = 2, .length = 100}, 1000);
  REQUIRE(engine.begin(5000));
  // Nothing more is posted, as when memory is short: the credit that is left carries neither a grant nor
  // data.
  REQUIRE(engine.next(5000, 1000).has_value());
  REQUIRE(engine.credits().send == 1);
  REQUIRE(engine.credits().available == 0);
  CHECK_FALSE(engine.next(4000, 1000).has_value());
  CHECK(engine.next_deadline() == 6000);
  check_timeout(engine, 6000, Fault::send_credit_timeout);
}

TEST_CASE("Send Credit Grant Timer: it does not run while there is nothing to send yet") {
  Engine engine = established_server(five_seconds());
  feed(engine, {.granted = 1, .length = 100}, 1000);
  REQUIRE(engine.begin(5000));
  REQUIRE(next(engine, 1000, 5000).has_value());
  CHECK_FALSE(next(engine, 1000, 999).has_value());  // less than a full fragment
  CHECK(engine.next_deadline() == 121'000);
}

TEST_CASE("a peer that negotiates and never grants cannot be asked: it is gone after idle and grant time") {
  Engine engine = established_server(five_seconds());
  REQUIRE(engine.tick(120'000).has_value());
  CHECK_FALSE(next(engine, 120'000).has_value());
  check_timeout(engine, 125'000, Fault::send_credit_timeout);
}

TEST_CASE("a peer that spends its last credit and grants nothing leaves both mute: the end after 5 s") {
  Engine engine = established_server(five_seconds());
  for (int i = 0; i < 10; ++i) feed(engine, {}, 100);
  CHECK_FALSE(next(engine, 100).has_value());
  check_timeout(engine, 5100, Fault::send_credit_timeout);
}

TEST_CASE("timeouts of any size do not wrap") {
  Limits limits;
  limits.idle_timeout = kNever;
  limits.negotiate_timeout = kNever - 1;
  Engine engine(Role::passive, limits, 1000);
  CHECK(engine.next_deadline() == kNever);
  Engine other = talking_server(limits);
  CHECK(other.next_deadline() == kNever);
  CHECK(other.tick(kNever - 1).has_value());
}

}  // namespace smbdirect::protocol::smb_direct::test
