// SPDX-License-Identifier: MIT
#include "protocol/smbdirect/credits.h"

#include <algorithm>

#include <doctest/doctest.h>

#include "tests/unit/protocol/smbdirect/peer.h"

namespace smbdirect::protocol::smb_direct::test {
namespace {

Limits credit_limits(uint16_t initial, uint16_t max) {
  Limits limits;
  limits.receive_credit_initial = initial;
  limits.receive_credit_max = max;
  return limits;
}

NegotiateRequest asking(uint16_t credits) {
  NegotiateRequest request = basic_request();
  request.credits_requested = credits;
  return request;
}

uint16_t granted_by(const std::optional<Outgoing>& message) {
  REQUIRE(message.has_value());
  return data_of(*message).credits_granted;
}

}  // namespace

TEST_CASE("ConsumeAllSendCredits: 10 empty messages later, one empty message grants 10") {
  Engine engine = established_server();
  for (int i = 0; i < 10; ++i) {
    CHECK_FALSE(next(engine, 0).has_value());
    feed(engine, {.granted = 1});
  }
  CHECK(engine.credits().granted == 0);
  const auto message = next(engine, 0);
  CHECK(granted_by(message) == 10);
  CHECK(message->header_size == 20);
  CHECK_FALSE(next(engine, 0).has_value());
}

TEST_CASE("ConsumeAllSendCredits with data: fragments use up 10 credits, one empty message grants 10") {
  Engine engine = established_server();
  for (uint32_t i = 0; i < 10; ++i) {
    CHECK_FALSE(next(engine, 0).has_value());
    feed(engine, {.granted = 1, .length = 100, .remaining = 2000 - i * 100});
  }
  CHECK(granted_by(next(engine, 0)) == 10);
  CHECK_FALSE(next(engine, 0).has_value());
}

TEST_CASE("ConsumeAllReceiveCredits: without credits nothing is sent; a grant resumes it") {
  Engine engine = established_server();
  feed(engine, {.granted = 10, .length = 100});
  REQUIRE(engine.begin(20'000));
  uint64_t left = 20'000;
  for (int i = 0; i < 10; ++i) {
    const auto message = next(engine, 0, left);
    REQUIRE(message.has_value());
    left -= message->payload;
    if (i == 9) CHECK(data_of(*message).credits_granted > 0);  // the last credit's message grants
  }
  CHECK(engine.credits().send == 0);
  CHECK_FALSE(next(engine, 0, left).has_value());
  feed(engine, {.granted = 10});
  for (int i = 0; i < 10; ++i) {
    const auto message = next(engine, 0, left);
    REQUIRE(message.has_value());
    left -= message->payload;
  }
  CHECK(left == 0);
}

TEST_CASE("the reserved last credit is spent only on a message that grants") {
  Engine engine = established_server({}, asking(2));
  engine.hold_grants(true);
  feed(engine, {.granted = 2, .length = 10});
  REQUIRE(engine.begin(5000));
  // No receive is posted here, so nothing can be granted.
  const auto first = engine.next(5000, 0);
  REQUIRE(first.has_value());
  const uint16_t spare = engine.credits().available;
  CHECK(engine.credits().send == 1);
  if (spare == 0) CHECK_FALSE(engine.next(5000, 0).has_value());
  CHECK(data_of(*first).credits_granted == 0);
  const auto second = next(engine, 0, 4000);
  CHECK(granted_by(second) == 1);
  CHECK(engine.credits().send == 0);
}

TEST_CASE("a grant is made only for a receive that is posted") {
  Engine engine = established_server();
  for (int i = 0; i < 9; ++i) feed(engine, {.granted = 5, .length = 1});
  const Credits before = engine.credits();
  CHECK(before.granted == 1);
  CHECK(before.posted == 2);  // the one granted and the spare one
  REQUIRE(engine.begin(1));
  CHECK(granted_by(engine.next(1, 0)) == 1);  // the spare one
  REQUIRE(engine.begin(1));
  CHECK(granted_by(engine.next(1, 0)) == 0);
  engine.receives_posted(3);
  REQUIRE(engine.begin(1));
  CHECK(granted_by(engine.next(1, 0)) == 3);
  CHECK(engine.credits().posted == engine.credits().granted);
}

TEST_CASE("never more is granted than the target; one more only to use the last send credit") {
  Engine engine = established_server();  // target 10
  feed(engine, {.granted = 3});
  engine.receives_posted(50);  // more than wanted
  REQUIRE(engine.begin(5000));
  CHECK(granted_by(engine.next(5000, 0)) == 1);
  CHECK(engine.credits().granted == 10);
  CHECK(granted_by(engine.next(4000, 0)) == 0);
  CHECK(granted_by(engine.next(3000, 0)) == 1);  // MS-SMBD 3.1.5.9
  CHECK(engine.credits().granted == 11);
  CHECK_FALSE(engine.next(2000, 0).has_value());
}

TEST_CASE("receives wanted never exceed receive_credit_max") {
  for (const uint16_t max : {uint16_t{2}, uint16_t{5}, uint16_t{10}}) {
    Engine engine = established_server(credit_limits(max, max), asking(UINT16_MAX));
    for (Millis now = 0; now < 100'000; now += 200) {
      feed(engine, {.requested = UINT16_MAX, .granted = 1, .length = 50}, now);
      while (next(engine, now)) {
      }
      while (next(engine, now + 100)) {  // no reply came
      }
      const Credits credits = engine.credits();
      REQUIRE(credits.posted <= max);
      REQUIRE(credits.granted <= credits.posted);
      REQUIRE(credits.granted >= 1);
    }
  }
}

TEST_CASE("the target grows with use, up to what the peer asks for and our maximum") {
  Engine engine = established_server({}, asking(100));
  feed(engine, {.requested = 100, .granted = 1000});
  CHECK(engine.credits().receive_target == 32);
  uint16_t highest = 0;
  for (uint32_t left = 2000; left-- > 0;) {
    feed(engine, {.requested = 100, .granted = 10, .length = 1, .remaining = left});
    while (next(engine, 0)) {
    }
    highest = std::max(highest, engine.credits().granted);
  }
  CHECK(engine.credits().receive_target == 100);
  CHECK(highest == 100);
}

TEST_CASE("a peer that asks for less gets less, without anything taken back") {
  Engine engine = established_server({}, asking(100));
  feed(engine, {.requested = 5, .granted = 10});
  CHECK(engine.credits().receive_target == 5);
  CHECK(engine.credits().granted == 31);
  REQUIRE(engine.begin(1));
  CHECK(granted_by(next(engine, 0, 1)) == 0);
  for (int i = 0; i < 27; ++i) feed(engine, {.requested = 5});
  REQUIRE(engine.begin(1));
  CHECK(granted_by(next(engine, 0, 1)) == 1);
}

TEST_CASE("a target that is not used decays, by not granting again") {
  Engine engine = established_server({}, asking(255));
  feed(engine, {.requested = 255, .granted = 5000});
  for (uint32_t left = 1000; left-- > 0;) {
    feed(engine, {.requested = 255, .granted = 1, .length = 1, .remaining = left});
    while (next(engine, 0)) {
    }
  }
  CHECK(engine.credits().receive_target == 255);
  Millis now = 0;
  for (int i = 0; i < 600; ++i) {
    now += 1000;
    feed(engine, {.requested = 255, .granted = 1, .length = 1}, now);
    REQUIRE(engine.begin(1));
    REQUIRE(next(engine, now, 1).has_value());
    REQUIRE(engine.credits().granted > 8);
  }
  CHECK(engine.credits().receive_target == 32);
  CHECK(engine.credits().granted == 32);
}

TEST_CASE("a long silence decays the target at once, in bounded work") {
  Engine engine = established_server({}, asking(255));
  feed(engine, {.requested = 255, .granted = 5000});
  for (uint32_t left = 1000; left-- > 0;) {
    feed(engine, {.requested = 255, .length = 1, .remaining = left});
    while (next(engine, 0)) {
    }
  }
  feed(engine, {.requested = 255}, Millis{1} << 60);
  CHECK(engine.credits().receive_target == 32);
}

TEST_CASE("credits past 65535 end the connection") {
  Engine engine = established_server();
  feed(engine, {.granted = 65535});
  check_fault(engine, data_message({.granted = 1}), Fault::credit_overflow);
}

TEST_CASE("a message without a credit for it ends the connection") {
  Engine engine = established_server({}, asking(2));
  feed(engine, {});
  feed(engine, {});
  post(engine);
  check_fault(engine, data_message({}), Fault::no_receive_credit);
}

TEST_CASE("active: nothing is sent before a receive is posted to grant; then the first message grants all") {
  Engine engine = established_client();
  REQUIRE(engine.begin(100));
  CHECK_FALSE(engine.next(100, 0).has_value());
  CHECK(granted_by(next(engine, 0, 100)) == 10);
}

TEST_CASE("active: with nothing to send, an empty message grants") {
  Engine engine = established_client();
  const auto message = next(engine, 0);
  CHECK(granted_by(message) == 10);
  CHECK(message->header_size == 20);
  CHECK_FALSE(next(engine, 0).has_value());
}

TEST_CASE("active: a server that sends before it was granted anything is at fault") {
  Engine engine = established_client();
  post(engine);
  check_fault(engine, data_message({.length = 1}), Fault::no_receive_credit);
}

TEST_CASE("1 credit: fragments of a request are answered with an empty grant each, a reply carries it") {
  Engine engine = established_server({}, asking(1));
  feed(engine, {.requested = 1, .granted = 1, .length = 100, .remaining = 100});
  CHECK(granted_by(next(engine, 0)) == 1);
  CHECK(engine.credits().send == 0);
  feed(engine, {.requested = 1, .granted = 1, .length = 100});
  CHECK_FALSE(next(engine, 0).has_value());  // the reply will need this credit
  REQUIRE(engine.begin(50));
  const auto reply = next(engine, 10, 50);
  CHECK(granted_by(reply) == 1);
  CHECK(reply->payload == 50);
}

TEST_CASE("1 credit: when the reply does not come, the grant goes out alone before long") {
  Engine engine = established_server({}, asking(1));
  feed(engine, {.requested = 1, .granted = 1, .length = 100}, 1000);
  CHECK_FALSE(next(engine, 1000).has_value());
  CHECK(engine.next_deadline() == 1100);
  CHECK_FALSE(next(engine, 1099).has_value());
  CHECK(granted_by(next(engine, 1100)) == 1);
}

TEST_CASE("hold_grants: one credit stays, again only after a while; released, all come back") {
  Engine engine = established_server();
  feed(engine, {.granted = 100, .length = 10, .remaining = 10'000});
  engine.hold_grants(true);
  for (uint32_t i = 1; i < 10; ++i) {
    CHECK_FALSE(next(engine, 0).has_value());
    feed(engine, {.granted = 1, .length = 10, .remaining = 10'000 - 10 * i});
  }
  CHECK(engine.credits().granted == 0);
  CHECK(granted_by(next(engine, 0)) == 1);
  CHECK_FALSE(next(engine, 0).has_value());
  feed(engine, {.length = 10, .remaining = 10'000 - 100}, 20);
  CHECK_FALSE(next(engine, 20).has_value());
  CHECK(engine.next_deadline() == 100);
  CHECK(granted_by(next(engine, 100)) == 1);
  engine.hold_grants(false);
  CHECK(granted_by(next(engine, 101)) == 9);
}

TEST_CASE("1 credit: once the reply is out, a credit given back is passed on at once") {
  Engine engine = established_server({}, asking(1));
  feed(engine, {.requested = 1, .granted = 1, .length = 100});
  REQUIRE(engine.begin(50));
  REQUIRE(next(engine, 0, 50).has_value());
  feed(engine, {.requested = 1, .granted = 1});
  CHECK(granted_by(next(engine, 0)) == 2);  // one to use, one to rest on
  CHECK(engine.credits().send == 0);
}

TEST_CASE("a peer that runs low in the middle of a message is granted more before it runs out") {
  Engine engine = established_server({}, asking(255));
  feed(engine, {.requested = 255, .granted = 100});
  for (uint32_t left = 100'000; engine.credits().granted > 8; left -= 10) {
    CHECK_FALSE(next(engine, 0).has_value());
    feed(engine, {.requested = 255, .granted = 1, .length = 10, .remaining = left});
  }
  CHECK(granted_by(next(engine, 0)) == 64 - 8);  // the target has grown
}

TEST_CASE("a peer left with one credit by empty messages is granted more after a moment") {
  Engine engine = established_server();
  for (int i = 0; i < 9; ++i) feed(engine, {.granted = 1}, 1000);
  CHECK(engine.credits().granted == 1);
  CHECK_FALSE(next(engine, 1000).has_value());
  CHECK(engine.next_deadline() == 1100);
  CHECK(granted_by(next(engine, 1100)) == 9);
  CHECK_FALSE(next(engine, 1100).has_value());
}

TEST_CASE("hold_grants: no receives are wanted beyond those that will be granted") {
  Engine engine = established_server();
  feed(engine, {.granted = 100});
  engine.hold_grants(true);
  post(engine);
  for (int i = 0; i < 8; ++i) {
    feed(engine, {.granted = 1});
    CHECK(engine.receives_wanted() == 0);
  }
  CHECK(engine.credits().granted == 1);
  CHECK(engine.credits().posted == 2);
  feed(engine, {.granted = 1});
  CHECK(engine.receives_wanted() == 0);
  engine.hold_grants(false);
  CHECK(engine.receives_wanted() == 10);
}

TEST_CASE("hold_grants: asking for answers does not make us grant sooner") {
  Engine engine = established_server({}, asking(1));
  feed(engine, {.requested = 1, .granted = 100});
  engine.hold_grants(true);
  CHECK(granted_by(next(engine, 0)) == 1);
  feed(engine, {.requested = 1, .flags = DataTransfer::kResponseRequested}, 10);
  CHECK(granted_by(next(engine, 10)) == 0);
  CHECK_FALSE(next(engine, 99).has_value());
  CHECK(granted_by(next(engine, 100)) == 1);
}

TEST_CASE("hold_grants: a keepalive is answered, without a credit beyond the one") {
  Engine engine = established_server();
  feed(engine, {.granted = 100});
  engine.hold_grants(true);
  feed(engine, {.flags = DataTransfer::kResponseRequested});
  CHECK(granted_by(next(engine, 0)) == 0);
  CHECK(engine.credits().granted == 8);
}

TEST_CASE("hold_grants: data flows on, also with the last send credit") {
  Engine engine = established_server();
  feed(engine, {.granted = 2});
  engine.hold_grants(true);
  REQUIRE(engine.begin(3000));
  CHECK(granted_by(next(engine, 0, 3000)) == 0);
  CHECK(granted_by(next(engine, 0, 2000)) == 1);
  feed(engine, {.granted = 1});
  CHECK(granted_by(next(engine, 0, 1000)) == 1);
}

TEST_CASE("mid-message without data at hand, a short fragment carries the grant the peer waits for") {
  Engine engine = established_server();
  feed(engine, {.granted = 100});
  REQUIRE(engine.begin(3000));
  REQUIRE(next(engine, 0, 1000).has_value());
  for (uint32_t i = 0; i < 9; ++i) {
    feed(engine, {.granted = 1, .length = 10, .remaining = 1000 - 10 * i});
    CHECK_FALSE(next(engine, 0, 300).has_value());
  }
  feed(engine, {.granted = 1, .length = 10, .remaining = 910});
  const auto part = next(engine, 0, 300);
  CHECK(granted_by(part) == 10);
  CHECK(part->payload == 300);
  CHECK(data_of(*part).remaining_data_length == 1700);
}

TEST_CASE("mid-message with no data at all, a fragment of no bytes does it: never an empty message") {
  Engine engine = established_server();
  feed(engine, {.granted = 100});
  REQUIRE(engine.begin(3000));
  REQUIRE(next(engine, 0, 1000).has_value());
  feed(engine, {.flags = DataTransfer::kResponseRequested});
  const auto part = next(engine, 0, 0);
  REQUIRE(part.has_value());
  CHECK(part->payload == 0);
  CHECK(part->header_size == 24);
  CHECK_FALSE(part->completes);
  CHECK(data_of(*part).remaining_data_length == 2000);
  CHECK(data_of(*part).data_offset == 24);
}

TEST_CASE("begun but not started, an empty message may still go out") {
  Engine engine = established_server();
  feed(engine, {.granted = 100});
  REQUIRE(engine.begin(3000));
  feed(engine, {.flags = DataTransfer::kResponseRequested});
  const auto message = next(engine, 0, 500);
  REQUIRE(message.has_value());
  CHECK(message->header_size == 20);
}

}  // namespace smbdirect::protocol::smb_direct::test
