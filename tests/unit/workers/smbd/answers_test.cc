// SPDX-License-Identifier: MIT
// What smbd says, in whatever pieces its stream comes, and how that stream ends.
#include <doctest/doctest.h>

#include "smbd_exchange_rig.h"

using namespace smbdirect::workers;  // NOLINT: a test speaks of one thing
using namespace smbdirect::workers::session_test;
using smb2_test::operator+;
using smb2_test::pattern;

namespace {

constexpr uint32_t kPlaced = 150;

/// A plain READ, an RDMA-channel READ, a compound with one, an ECHO; and smbd's answers to them on its
/// stream.
struct Asked {
  explicit Asked(SmbdExchangeRig& rig) {
    rig.open();
    const auto at = rig.expose(memory, fabric::Access::remote_write);
    const auto in_compound = rig.expose(compound_memory, fabric::Access::remote_write);
    const auto channel = [](uint64_t id, const smb2::BufferDescriptor& to) {
      return smb2_test::read_request({.message_id = id}, {.length = kPlaced, .channel = 1, .memory = {to}});
    };
    rig.from_client(smb2_test::read_request({.message_id = 2}, {.length = 100}));
    rig.from_client(channel(3, at));
    rig.from_client(
        smb2_test::chain({channel(4, in_compound), smb2_test::plain(smb2_test::kEcho, {.message_id = 5})}));
    rig.from_client(smb2_test::plain(smb2_test::kEcho, {.message_id = 6}));
    rig.settle();
    REQUIRE(rig.smbd.heard.size() == 4);
  }
  static Bytes echo(uint64_t id) {
    return smb2_test::plain(smb2_test::kEcho, {.message_id = id, .flags = smb2_test::kResponse});
  }
  [[nodiscard]] Messages answers() const {
    return {smb2_test::read_response({.message_id = 2}, pattern(100, 2)),
            smb2_test::read_response({.message_id = 3}, placed),
            smb2_test::chain({smb2_test::read_response({.message_id = 4}, compound_placed), echo(5)}),
            echo(6)};
  }
  [[nodiscard]] Bytes stream() const {
    Bytes all;
    for (const Bytes& answer : answers()) all = all + framed(answer);
    return all;
  }
  void check(SmbdExchangeRig& rig) const {
    REQUIRE(rig.broken.empty());
    REQUIRE(rig.client_side.complete == 4);
    CHECK(rig.client_side.messages[0] == answers()[0]);
    CHECK(rig.client_side.messages[1].size() == 80);  // the data is where the client wanted it
    CHECK(memory == placed);
    CHECK(compound_memory == compound_placed);
    CHECK(rig.client_side.messages[2].size() == 80 + echo(5).size());
    CHECK(rig.client_side.messages[3] == echo(6));
    CHECK(rig.held() == 0);
  }

  Bytes placed = pattern(kPlaced, 3), compound_placed = pattern(kPlaced, 4);
  Bytes memory = Bytes(kPlaced), compound_memory = Bytes(kPlaced);
};

}  // namespace

TEST_CASE("answers may come byte by byte") {
  SmbdExchangeRig rig;
  const Asked asked(rig);
  rig.smbd.at_a_time = 1;
  rig.smbd.say(asked.stream());
  rig.settle();
  CHECK(rig.pumps >= asked.stream().size());
  asked.check(rig);
}

TEST_CASE("answers may be cut anywhere") {
  size_t cut = 1, length = 2;
  for (; cut < length; cut += cut % 64 < 8 ? 1 : 3) {
    CAPTURE(cut);
    SmbdExchangeRig rig;
    const Asked asked(rig);
    const Bytes stream = asked.stream();
    length = stream.size();
    rig.smbd.say(std::span(stream).first(cut));
    rig.settle();
    rig.smbd.say(std::span(stream).subspan(cut));
    rig.settle();
    asked.check(rig);
  }
}

TEST_CASE("a stream that ends between answers ends the connection, and all of them are delivered") {
  SmbdExchangeRig rig;
  const Asked asked(rig);
  rig.smbd.say(asked.stream());
  rig.smbd.close();
  rig.settle();
  CHECK(rig.state == Exchange::State::end);
  asked.check(rig);
}

TEST_CASE("a stream that ends in the middle of an answer is a fault, wherever it is") {
  size_t cut = 1, length = 2;
  for (; cut < length; cut += cut % 64 < 4 ? 1 : 7) {
    CAPTURE(cut);
    SmbdExchangeRig rig;
    const Asked asked(rig);
    const Bytes stream = asked.stream();
    length = stream.size();
    size_t whole = 0, at = 0;
    for (const Bytes& answer : asked.answers()) {
      at += 4 + answer.size();
      if (at > cut) break;
      ++whole;
      if (at == cut) whole = SIZE_MAX;
    }
    if (whole > 4) continue;
    rig.smbd.say(std::span(stream).first(cut));
    rig.smbd.close();
    rig.settle();
    CHECK(rig.broken == "smbd's connection was closed in the middle of a message");
    CHECK(rig.state == Exchange::State::broken);
    CHECK(rig.client_side.complete == whole);
  }
}

TEST_CASE("an answer of any size is sent in fragments, as it is and from where it was read to") {
  SmbdExchangeRig rig;
  rig.open();
  uint64_t id = 2;
  Messages answers;
  for (const uint32_t size : {1U, 8'000U, 8'088U, 8'089U, 300'000U, 5'000'000U}) {
    rig.from_client(smb2_test::read_request({.message_id = id}, {.length = size}));
    rig.settle();
    answers.push_back(smb2_test::read_response({.message_id = id}, pattern(size, size)));
    rig.smbd.answer(answers.back());
    rig.settle();
    ++id;
  }
  CHECK(rig.client_side.messages == answers);
  CHECK(rig.client_side.complete == answers.size());
  CHECK(rig.server->counters().fragments_sent >= 5'300'000 / 8192);
  CHECK(rig.copied() == 0);
  CHECK(rig.held() == 0);
}

TEST_CASE("an answer larger than the client takes is a fault before a byte of it has gone") {
  SmbdExchangeRig::Setup setup;
  setup.limits.max_fragmented_size = 140'000;
  SmbdExchangeRig rig(setup);
  rig.open();
  rig.from_client(smb2_test::read_request({.message_id = 2}, {.length = 140'000}));
  rig.settle();
  rig.smbd.answer(smb2_test::read_response({.message_id = 2}, pattern(140'000, 1)));
  rig.settle();
  CHECK(rig.broken.contains("is more than the client takes"));
  CHECK(rig.client_side.messages.empty());
}

TEST_CASE("what is no answer is a fault that says so, and nothing after it counts") {
  SmbdExchangeRig rig;
  rig.open();
  const auto answered = rig.server->counters().smb_responses;
  SUBCASE("a refusal") {
    rig.smbd.say(smb2_test::hex("83000001 80"));
    rig.settle();
    CHECK(rig.broken.contains("hosts allow and hosts deny"));
  }
  SUBCASE("an answer that nobody asked for") {
    rig.smbd.answer(Asked::echo(77));
    rig.settle();
    CHECK(rig.broken.starts_with("smbd's response: "));
  }
  CHECK(rig.exchange->pump(rig.upstream.get()) == Exchange::State::broken);
  CHECK(rig.client_side.messages.empty());
  CHECK(rig.server->counters().smb_responses == answered);
}

TEST_CASE(
    "keepalives bring nothing: so many of them are a turn's work, and what follows them comes all the same") {
  SmbdExchangeRig rig;
  rig.open();
  rig.from_client(smb2_test::plain(smb2_test::kEcho, {.message_id = 2}));
  rig.settle();
  Bytes said;
  for (int i = 0; i < 1'000; ++i) said = said + smb2_test::hex("85000000");
  said = said + framed(Asked::echo(2));
  rig.smbd.say(said);
  REQUIRE(rig.smbd.move());
  CHECK(rig.exchange->pump(rig.upstream.get()) == Exchange::State::again);
  rig.state = Exchange::State::again;
  rig.pumps = 0;
  rig.settle();
  CHECK(rig.pumps >= 1'000 / 64 - 1);
  CHECK(rig.client_side.messages == Messages{Asked::echo(2)});
}
