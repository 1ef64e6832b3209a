// SPDX-License-Identifier: MIT
// Requests whose replies have no room wait, with all behind them, and go on when there is room: nothing is
// lost, and the order stays.
#include <doctest/doctest.h>

#include "smbd_exchange_rig.h"

using namespace smbdirect::workers;  // NOLINT: a test speaks of one thing
using namespace smbdirect::workers::session_test;
using smb2_test::pattern;

namespace {

constexpr uint32_t kKiB = 1024;

Bytes echo(uint64_t id) { return smb2_test::plain(smb2_test::kEcho, {.message_id = id}); }
Bytes read_of(uint64_t id, uint32_t length) {
  return smb2_test::read_request({.message_id = id}, {.length = length});
}
Bytes failure(uint64_t id) {
  return smb2_test::error_response(smb2_test::kRead,
                                   {.message_id = id, .status = smb2_test::kInvalidParameter});
}

/// smbd answers everything that it is asked, until nothing comes any more.
Messages answer_all(SmbdExchangeRig& rig) {
  Messages answers;
  for (size_t i = 0; i < rig.smbd.heard.size(); ++i) {
    const Bytes& request = rig.smbd.heard[i];
    const smb2_test::Head head{.message_id = smb2_test::get(request, 24, 8)};
    const auto command = static_cast<uint16_t>(smb2_test::get(request, 12, 2));
    if (command == smb2_test::kRead) {
      answers.push_back(smb2_test::read_response(
          head, pattern(smb2_test::get(request, 68, 4), static_cast<uint32_t>(head.message_id))));
    } else {
      answers.push_back(
          smb2_test::plain(command, {.message_id = head.message_id, .flags = smb2_test::kResponse}));
    }
    rig.smbd.answer(answers.back());
    rig.settle();
  }
  return answers;
}

}  // namespace

TEST_CASE(
    "replies promised up to the limit: what comes then waits, and the client gets no credits for more") {
  SmbdExchangeRig rig(SmbdExchangeRig::limited_to(1'024 * kKiB, 255));
  rig.open();
  Messages requests;
  uint64_t id = 2;
  for (int i = 0; i < 20; ++i) rig.from_client(requests.emplace_back(read_of(id++, 256 * kKiB)));
  for (int i = 0; i < 300; ++i) rig.from_client(requests.emplace_back(echo(id++)));
  rig.settle();
  CHECK(rig.exchange->stalled());
  CHECK(rig.smbd.heard.size() >= 4);
  CHECK(rig.smbd.heard.size() < 20);
  CHECK(rig.admission().reserved() == rig.smbd.heard.size() * 256 * kKiB);
  CHECK(rig.server->engine().credits().granted <= 1);
  CHECK_FALSE(rig.client->idle());  // the rest is still with the client

  const Messages answers = answer_all(rig);
  CHECK(rig.smbd.heard == requests);
  CHECK(rig.client_side.messages == answers);
  CHECK_FALSE(rig.exchange->stalled());
  CHECK(rig.client->idle());
  CHECK(rig.server->engine().credits().granted > 1);
  CHECK(rig.admission().reserved() == 0);
  CHECK(rig.held() == 0);
}

TEST_CASE("an answer that the client has not taken counts on, though nothing is promised any more") {
  SmbdExchangeRig rig(SmbdExchangeRig::limited_to(1'024 * kKiB));
  rig.open();
  rig.from_client(read_of(2, 900 * kKiB));
  rig.settle();
  rig.server_stands = true;
  rig.smbd.answer(smb2_test::read_response({.message_id = 2}, pattern(900 * kKiB, 1)));
  rig.from_client(read_of(3, 900 * kKiB));
  rig.settle();
  CHECK(rig.admission().reserved() == 0);
  CHECK(rig.exchange->stalled());
  rig.wait(10'000);
  CHECK(rig.smbd.heard.size() == 1);
  rig.server_stands = false;
  rig.settle();
  CHECK(rig.smbd.heard == Messages{read_of(2, 900 * kKiB), read_of(3, 900 * kKiB)});
  CHECK_FALSE(rig.exchange->stalled());
}

TEST_CASE("one that awaits nothing is served whatever its limit") {
  SmbdExchangeRig rig(SmbdExchangeRig::limited_to(64 * kKiB));
  rig.open();
  rig.from_client(read_of(2, 8'192 * kKiB));
  rig.settle();
  CHECK(rig.smbd.heard.size() == 1);
  CHECK_FALSE(rig.exchange->stalled());
  (void)answer_all(rig);
  CHECK(rig.client_side.complete == 1);
}

TEST_CASE("a stall in the middle of others' fragments: each request is whole, and in its place") {
  SmbdExchangeRig rig(SmbdExchangeRig::limited_to(512 * kKiB));
  rig.open();
  Messages requests;
  for (uint64_t id = 2; id < 40; ++id) {
    switch (id % 3) {
      case 0:
        requests.push_back(read_of(id, 200 * kKiB));
        break;
      case 1:
        requests.push_back(smb2_test::write_request(
            {.message_id = id}, {.data = pattern(3'000 * id, static_cast<uint32_t>(id))}));
        break;
      default:
        requests.push_back(echo(id));
    }
    rig.from_client(requests.back());
  }
  rig.settle();
  CHECK(rig.exchange->stalled());
  for (size_t i = 0; i < requests.size(); ++i) {
    REQUIRE(i < rig.smbd.heard.size());
    const auto command = static_cast<uint16_t>(smb2_test::get(requests[i], 12, 2));
    rig.smbd.answer(smb2_test::error_response(
        command, {.message_id = smb2_test::get(requests[i], 24, 8), .status = smb2_test::kCancelled}));
    rig.settle();
  }
  CHECK(rig.smbd.heard == requests);
  CHECK(rig.held() == 0);
}

TEST_CASE("a compound's cost is known when it is whole: then it waits for room, and goes on by itself") {
  SmbdExchangeRig rig(SmbdExchangeRig::limited_to(1'024 * kKiB));
  rig.open();
  const Bytes compound =
      smb2_test::chain({smb2_test::plain(smb2_test::kClose, {.message_id = 3}, 24), read_of(4, 500 * kKiB)});
  rig.from_client(read_of(2, 700 * kKiB));
  rig.from_client(compound);
  rig.settle();
  REQUIRE(rig.smbd.heard == Messages{read_of(2, 700 * kKiB)});
  REQUIRE(rig.exchange->stalled());
  // The answer is the last thing that happens: even its way to the client stands.
  rig.server_stands = true;
  rig.smbd.answer(failure(2));
  rig.settle();
  CHECK(rig.smbd.heard == Messages{read_of(2, 700 * kKiB), compound});
  CHECK_FALSE(rig.exchange->stalled());
}

TEST_CASE("an RDMA-channel READ that waits for room goes on by itself") {
  SmbdExchangeRig rig(SmbdExchangeRig::limited_to(1'024 * kKiB));
  rig.open();
  Bytes memory(300 * kKiB);
  rig.from_client(read_of(2, 500 * kKiB));
  // There is room for its reply, but not beside the request itself.
  rig.from_client(smb2_test::read_request(
      {.message_id = 3},
      {.length = 300 * kKiB, .channel = 1, .memory = {rig.expose(memory, fabric::Access::remote_write)}}));
  rig.settle();
  REQUIRE(rig.smbd.heard.size() == 1);
  REQUIRE(rig.exchange->stalled());
  SUBCASE("when the reply before it is there") {
    rig.server_stands = true;
    rig.smbd.answer(failure(2));
    rig.settle();
  }
  SUBCASE("when what was promised is long in coming") { rig.wait(300); }
  CHECK(rig.smbd.heard.size() == 2);
}

TEST_CASE("what is behind a gathered request that waits for room comes after it") {
  SmbdExchangeRig rig(SmbdExchangeRig::limited_to(1'024 * kKiB));
  rig.open();
  const Bytes compound = smb2_test::chain({echo(3), read_of(4, 500 * kKiB)});
  const Messages requests{read_of(2, 700 * kKiB), compound, echo(5),
                          smb2_test::write_request({.message_id = 6}, {.data = pattern(100'000, 1)})};
  for (const Bytes& request : requests) rig.from_client(request);
  rig.settle();
  REQUIRE(rig.smbd.heard.size() == 1);
  rig.smbd.answer(failure(2));
  rig.settle();
  CHECK(rig.smbd.heard == requests);
}

TEST_CASE(
    "pieces that smbd does not read are counted too: the client waits, and goes on when they are read") {
  SmbdExchangeRig rig;
  rig.open();
  rig.smbd.reads = false;
  // Each element is two pieces on smbd's stream: a READ into no memory, and padding.
  std::vector<Bytes> elements;
  uint64_t id = 2;
  for (int i = 0; i < 1'100; ++i)
    elements.push_back(
        smb2_test::read_request({.message_id = id++}, {.length = 1, .channel = 1, .memory = {{0, 1, 0}}}));
  for (int i = 0; i < 5; ++i) {
    for (Bytes& element : elements) smb2_test::put(element, 24, id++, 8);
    rig.from_client(smb2_test::chain(elements));
  }
  rig.settle();
  CHECK(rig.exchange->outbox().pieces() >= 4'096);
  rig.from_client(echo(id));
  rig.settle();
  CHECK(rig.exchange->stalled());
  rig.smbd.reads = true;
  rig.settle();
  CHECK(rig.smbd.heard.size() == 6);
  CHECK(rig.smbd.heard.back() == echo(id));
  CHECK_FALSE(rig.exchange->stalled());
}

TEST_CASE("requests gathered for an smbd that reads nothing take no more than their connection may hold") {
  SmbdExchangeRig rig(SmbdExchangeRig::limited_to(1'024 * kKiB));
  rig.open();
  rig.smbd.reads = false;
  Messages requests;
  uint64_t id = 2;
  size_t size = 100;
  int count = 100;
  SUBCASE("small ones") {}
  SUBCASE("large ones") { size = 900'000; }
  SUBCASE("one that is larger than that") {
    size = 5'000'000;
    count = 2;
  }
  // More than the socket takes.
  requests.push_back(smb2_test::write_request({.message_id = id++}, {.data = pattern(250'000, 1)}));
  for (int i = 0; i < count; ++i) {
    const Bytes write = smb2_test::write_request({.message_id = id}, {.data = pattern(size, 2)});
    requests.push_back(smb2_test::chain({write, echo(id + 1)}));
    id += 2;
  }
  for (const Bytes& request : requests) rig.from_client(request);
  rig.settle();
  CHECK(rig.held() <= rig.payload.limit());
  rig.smbd.reads = true;
  rig.settle();
  CHECK(rig.smbd.heard == requests);
}

TEST_CASE("a connection whose smbd has not taken all that was sent is not served beyond its limit") {
  SmbdExchangeRig rig(SmbdExchangeRig::limited_to(1'024 * kKiB));
  rig.open();
  rig.smbd.reads = false;
  const Bytes write = smb2_test::write_request({.message_id = 2}, {.data = pattern(250'000, 1)});
  rig.from_client(write);
  rig.settle();
  REQUIRE_FALSE(rig.exchange->outbox().empty());
  rig.from_client(read_of(3, 8'192 * kKiB));
  rig.settle();
  CHECK(rig.exchange->stalled());
  CHECK(rig.admission().reserved() < kKiB);
  rig.smbd.reads = true;
  rig.settle();
  CHECK(rig.smbd.heard == Messages{write, read_of(3, 8'192 * kKiB)});
}
