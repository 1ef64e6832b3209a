// SPDX-License-Identifier: MIT
// How much of what smbd says is held for a client that takes nothing: what was admitted always, and of what
// smbd says unasked no more than the hard cap.
#include <doctest/doctest.h>

#include "smbd_exchange_rig.h"

using namespace smbdirect::workers;  // NOLINT: a test speaks of one thing
using namespace smbdirect::workers::session_test;
using smb2_test::pattern;

namespace {

constexpr uint32_t kKiB = 1024;
constexpr uint16_t kOplockBreak = 18;

Bytes unasked(size_t size, uint32_t seed) {
  Bytes pdu = smb2_test::header(kOplockBreak, {.message_id = UINT64_MAX, .flags = smb2_test::kResponse});
  const Bytes body = pattern(size, seed);
  pdu.insert(pdu.end(), body.begin(), body.end());
  return pdu;
}

}  // namespace

TEST_CASE("at the hard cap smbd is read no more, and goes on when the client takes what is there") {
  SmbdExchangeRig rig(SmbdExchangeRig::limited_to(1'024 * kKiB));
  rig.open();
  rig.server_stands = true;
  Messages said;
  for (uint32_t i = 0; i < 100; ++i) rig.smbd.answer(said.emplace_back(unasked(100'000, i)));
  rig.settle();
  CHECK(rig.state == Exchange::State::no_memory);
  CHECK_FALSE(rig.smbd.all_said());
  CHECK(rig.held() <= rig.payload.limit() + ExchangeHost::kSlab);
  rig.server_stands = false;
  rig.settle();
  CHECK(rig.client_side.messages == said);
  CHECK(rig.broken.empty());
  CHECK(rig.held() == 0);
}

TEST_CASE("small messages are counted by their number as well") {
  SmbdExchangeRig rig(SmbdExchangeRig::limited_to(32'768 * kKiB));
  rig.open();
  rig.server_stands = true;
  Messages said;
  for (uint32_t i = 0; i < 10'000; ++i) rig.smbd.answer(said.emplace_back(unasked(8, i)));
  rig.settle();
  CHECK(rig.state == Exchange::State::no_memory);
  CHECK(rig.server->messages_queued() == 4'096);
  rig.server_stands = false;
  rig.settle();
  CHECK(rig.client_side.messages == said);
}

TEST_CASE("what was admitted is read from smbd at once, though its client takes nothing") {
  SmbdExchangeRig rig(SmbdExchangeRig::limited_to(4'096 * kKiB));
  rig.open();
  for (uint64_t id = 2; id < 120; ++id)
    rig.from_client(smb2_test::read_request({.message_id = id}, {.length = 64 * kKiB}));
  rig.settle();
  REQUIRE(rig.exchange->stalled());
  rig.server_stands = true;
  Messages answers;
  for (const uint64_t id : rig.smbd.ids())
    rig.smbd.answer(answers.emplace_back(
        smb2_test::read_response({.message_id = id}, pattern(64 * kKiB, static_cast<uint32_t>(id)))));
  rig.settle();
  CHECK(answers.size() >= 60);
  CHECK(rig.smbd.all_said());
  CHECK(rig.state == Exchange::State::drained);
  CHECK(rig.client_side.messages.empty());
  rig.server_stands = false;
  rig.settle();
  CHECK(rig.client_side.messages == answers);
}
