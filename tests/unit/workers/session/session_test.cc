// SPDX-License-Identifier: MIT
// What the session itself adds to its exchange: how many receives its client may have, and that nothing waits
// for what brings no event.
#include <doctest/doctest.h>

#include "session_rig.h"
#include "shm/base/socket_address.h"
#include "tcp_pair.h"

using namespace smbdirect::workers;  // NOLINT: a test speaks of one thing
using namespace smbdirect::workers::session_test;
using smb2_test::pattern;

namespace {

constexpr uint64_t kMiB = 1u << 20;

smbdirect::daemon::WorkerConfig few_receives() {
  smbdirect::daemon::WorkerConfig config;
  config.receive_credit_initial = 8;
  config.receive_credit_max = 64;
  config.buffered_bytes_per_connection = kMiB;
  config.buffered_bytes_per_worker = 64 * kMiB;
  return config;
}

/// What makes a client's receives more.
void much_traffic(SessionRig& rig, uint64_t from) {
  for (uint64_t i = 0; i < 200; ++i)
    rig.from_client(smb2_test::plain(smb2_test::kEcho, {.message_id = from + i}));
  rig.settle();
  for (int i = 0; i < 1'000 && !rig.client->idle(); ++i) rig.wait(5);
  REQUIRE(rig.client->idle());
  rig.wait(5);
}

}  // namespace

TEST_CASE(
    "a client has the receives it began with, more with a session, and no more of a worker short of memory") {
  SessionRig rig(few_receives());
  rig.connect();
  much_traffic(rig, 1'000);
  CHECK(rig.session->engine().credits().receive_target == 8);
  rig.set_up();
  much_traffic(rig, 2'000);
  CHECK(rig.session->engine().credits().receive_target == 64);
  // Others take more than a quarter.
  const auto other = rig.memory->client(*smbdirect::shm::address_from_text("192.0.2.9", 1));
  other->held.force(17 * kMiB);
  much_traffic(rig, 3'000);
  CHECK(rig.session->engine().credits().receive_target == 8);
  CHECK(rig.session->engine().credits().posted <= 9);
  other->held.refund(17 * kMiB);
  much_traffic(rig, 4'000);
  CHECK(rig.session->engine().credits().receive_target == 64);
  CHECK_FALSE(rig.ended);
}

TEST_CASE(
    "an RDMA-channel WRITE of more bytes than its connection may hold goes on whenever smbd has taken some") {
  SessionRig rig(few_receives());
  rig.connect();
  rig.set_up();
  Bytes memory = pattern(8 * kMiB, 1);
  const auto at = rig.client->expose(memory, fabric::Access::remote_read);
  REQUIRE(at);
  rig.smbd.reads = false;
  rig.from_client(smb2_test::write_request(
      {.message_id = 2}, {.length = 8 * kMiB, .channel = 1, .memory = {{at->offset, at->token, 8 * kMiB}}}));
  rig.settle();
  const uint64_t limit = Admission::hard_limit(kMiB + 64 * 8192);
  CHECK(rig.memory->held().used() <= limit + ExchangeHost::kSlab);
  rig.smbd.reads = true;
  rig.settle();  // no timer has a part in it
  CHECK(rig.smbd.heard == Messages{smb2_test::write_request({.message_id = 2}, {.data = memory})});
}

TEST_CASE(
    "RDMA-channel WRITEs go on while their connection's memory is full of what the client does not take") {
  SessionRig rig(few_receives());
  rig.connect();
  rig.set_up();
  const size_t before = rig.client_side.complete;
  // Each has less data than the socket takes at once: nothing is ever blocked.
  constexpr uint32_t kLength = 100'000;
  Bytes memory = pattern(kLength, 1);
  const auto at = rig.client->expose(memory, fabric::Access::remote_read);
  REQUIRE(at);
  rig.smbd.reads = false;
  std::vector<Bytes> asked, written;
  for (uint64_t id = 2; id < 102; ++id) {
    asked.push_back(smb2_test::write_request(
        {.message_id = id}, {.length = kLength, .channel = 1, .memory = {{at->offset, at->token, kLength}}}));
    written.push_back(smb2_test::write_request({.message_id = id}, {.data = memory}));
  }
  rig.from_client(smb2_test::chain(asked));
  rig.settle();
  rig.client->hold_grants(true);
  constexpr uint16_t kOplockBreak = 18;
  Bytes unasked = smb2_test::header(kOplockBreak, {.message_id = UINT64_MAX, .flags = smb2_test::kResponse});
  unasked.resize(100'000);
  for (int i = 0; i < 100; ++i) rig.smbd.answer(unasked);
  rig.settle();
  CHECK_FALSE(rig.smbd.all_said());
  rig.smbd.reads = true;
  rig.settle();  // no timer has a part in it: there is always one slab for the data, and smbd takes it
  CHECK(rig.smbd.heard == Messages{smb2_test::chain(written)});
  CHECK_FALSE(rig.smbd.all_said());
  rig.client->hold_grants(false);
  rig.settle();
  for (int i = 0; i < 1'000 && rig.client_side.complete < before + 100; ++i) rig.wait(5);
  CHECK(rig.client_side.complete == before + 100);
  CHECK(rig.client_side.messages.back() == unasked);
}

TEST_CASE("smbd's time begins anew with each burst that it does not take at once") {
  SessionRig rig(few_receives());
  rig.connect();
  rig.set_up();
  const auto burst = [&](uint64_t id, uint32_t length) {
    rig.smbd.reads = false;
    rig.from_client(smb2_test::write_request({.message_id = id}, {.data = pattern(length, 1)}));
    rig.settle();
    return ((MemoryHolder&)*rig.session).stuck_since();  // NOLINT: what WorkerMemory sees of it
  };
  const uint64_t first = burst(2, 700'000);
  REQUIRE(first != UINT64_MAX);
  rig.smbd.reads = true;
  rig.settle();
  rig.wait(40'000);
  // More is left of it than was of the first.
  const uint64_t second = burst(3, 1'000'000);
  CHECK(second >= first + 40'000);
  CHECK_FALSE(rig.ended);
}

TEST_CASE("what smbd said and is in hand goes on from the loop, though nothing comes any more") {
  SessionRig rig(few_receives());
  rig.connect();
  rig.set_up();
  rig.from_client(smb2_test::plain(smb2_test::kEcho, {.message_id = 2}));
  rig.settle();
  const Bytes answer = smb2_test::plain(smb2_test::kEcho, {.message_id = 2, .flags = smb2_test::kResponse});
  Bytes said;
  for (int i = 0; i < 1'000; ++i) said = smb2_test::operator+(std::move(said), smb2_test::hex("85000000"));
  rig.smbd.say(said);
  rig.smbd.answer(answer);
  const size_t before = rig.client_side.complete;
  rig.settle();
  CHECK(rig.client_side.complete == before + 1);
  CHECK(rig.client_side.messages.back() == answer);
}

TEST_CASE("an smbd that closes between answers ends the session, after all that it has said") {
  SessionRig rig(few_receives());
  rig.connect();
  rig.set_up();
  const size_t before = rig.client_side.complete;
  rig.from_client(smb2_test::read_request({.message_id = 2}, {.length = 500'000}));
  rig.settle();
  const Bytes answer = smb2_test::read_response({.message_id = 2}, pattern(500'000, 2));
  SUBCASE("whole") {
    rig.smbd.answer(answer);
    rig.smbd.close();
    rig.settle();
    CHECK(rig.client_side.complete == before + 1);
    CHECK(rig.client_side.messages.back() == answer);
    CHECK(rig.ended == "smbd closed the connection");
  }
  SUBCASE("in the middle of one") {
    const Bytes stream = framed(answer);
    rig.smbd.say(std::span(stream).first(300'000));
    rig.smbd.close();
    rig.settle();
    CHECK(rig.client_side.complete == before);
    CHECK(rig.ended == "smbd's connection was closed in the middle of a message");
  }
}

TEST_CASE("the supervisor is told of a stream when it is up, and once when it is not any more") {
  SessionRig rig(few_receives());
  rig.connect();
  CHECK(rig.told == std::vector<std::string>{"claim", "up 0"});
  rig.set_up();
  rig.told.clear();
  SUBCASE("smbd closes") { rig.smbd.close(); }
  SUBCASE("smbd breaks a rule") { rig.smbd.say(smb2_test::hex("ff000000")); }
  SUBCASE("the worker ends it") { rig.session->stop("stopped"); }
  SUBCASE("at once") { rig.session->end("over"); }
  SUBCASE("its address leaves") { rig.session->leave("left"); }
  rig.settle();
  CHECK(rig.ended);
  CHECK(rig.told == std::vector<std::string>{"down"});
}

TEST_CASE("a connection that ends while its stream is being connected is told of as down") {
  SessionRig rig(few_receives());
  rig.from_client(smb2_test::negotiate_request({0x0302}));
  rig.settle();
  CHECK(rig.told == std::vector<std::string>{"claim"});
  rig.session->end("over");
  CHECK(rig.told == std::vector<std::string>{"claim", "down"});
  CHECK(rig.session->row().phase == smbdirect::shm::ConnectionPhase::closing);
}

TEST_CASE(
    "whose address leaves is told to go and has a moment; smbd sees it go at once, whatever is on its way") {
  SessionRig rig(few_receives());
  rig.connect();
  rig.set_up();
  rig.from_client(smb2_test::read_request({.message_id = 2}, {.length = 500'000}));
  rig.settle();
  REQUIRE_FALSE(rig.smbd.is_closed());
  SUBCASE("it goes") {
    rig.session->leave("the address leaves");
    CHECK(rig.smbd.is_closed());
    rig.settle();
    CHECK(rig.ended == "the address leaves");
  }
  SUBCASE("it does not") {
    rig.server_end()->lingers = true;
    rig.session->leave("the address leaves");
    CHECK(rig.smbd.is_closed());
    rig.wait(Session::kGoodbyeMs - 1);
    CHECK_FALSE(rig.ended);
    CHECK(rig.server_end() != nullptr);
    rig.wait(1);
    CHECK(rig.ended == "the address leaves");
    CHECK(rig.server_end() == nullptr);
  }
  SUBCASE("it was asked to go already, and waits for smbd") {
    rig.session->stop("stopped");
    rig.server_end()->lingers = true;
    rig.session->leave("the address leaves");
    CHECK(rig.smbd.is_closed());
    rig.wait(Session::kGoodbyeMs);
    CHECK(rig.ended == "the address leaves");
  }
  CHECK(rig.clean);
}

TEST_CASE(
    "of a client that vanishes smbd sees an end, as over TCP, and a reset where it has part of a message") {
  SessionRig rig(few_receives());
  rig.connect(tcp_pair());
  rig.set_up();
  bool part = false;
  SUBCASE("whole") {}
  SUBCASE("part") { part = true; }
  const Bytes whole = smb2_test::plain(smb2_test::kEcho, {.message_id = 2});
  rig.from_client(whole);
  const Bytes begun = smb2_test::write_request({.message_id = 3}, {.data = pattern(20'000, 1)});
  if (part) {
    REQUIRE(rig.client->begin_message(begun.size()));
    rig.client->append({}, std::span(begun).first(15'000));
  }
  rig.settle();
  REQUIRE(rig.smbd.heard == Messages{whole});
  REQUIRE(rig.smbd.part().empty() != part);
  rig.server_end()->lose();
  CHECK(rig.ended == "the peer has vanished");
  CHECK_FALSE(rig.clean);
  CHECK(part ? rig.smbd.is_reset() : rig.smbd.is_closed());
}
