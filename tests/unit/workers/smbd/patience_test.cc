// SPDX-License-Identifier: MIT
// Promises alone never stall a connection for long: answers may never come (CHANGE_NOTIFY, a pipe's READ).
#include <doctest/doctest.h>

#include "smbd_exchange_rig.h"

using namespace smbdirect::workers;  // NOLINT: a test speaks of one thing
using namespace smbdirect::workers::session_test;
using smb2_test::pattern;

namespace {

constexpr uint32_t kKiB = 1024;

Bytes read_of(uint64_t id, uint32_t length) {
  return smb2_test::read_request({.message_id = id}, {.length = length});
}

}  // namespace

TEST_CASE("promises that nothing comes of are forgotten after a while, and the stall ends with no event") {
  SmbdExchangeRig rig(SmbdExchangeRig::limited_to(1'024 * kKiB));
  rig.open();
  rig.from_client(read_of(2, 700 * kKiB));
  rig.from_client(read_of(3, 700 * kKiB));
  rig.settle();
  CHECK(rig.smbd.heard.size() == 1);
  rig.wait(150);
  CHECK(rig.smbd.heard.size() == 1);
  CHECK(rig.exchange->stalled());
  rig.wait(100);
  CHECK(rig.smbd.heard.size() == 2);
  CHECK_FALSE(rig.exchange->stalled());
  CHECK(rig.admission().reserved() == 700 * kKiB);
  // They come all the same, in the end.
  rig.smbd.answer(smb2_test::read_response({.message_id = 2}, pattern(700 * kKiB, 1)));
  rig.smbd.answer(smb2_test::read_response({.message_id = 3}, pattern(700 * kKiB, 2)));
  rig.settle();
  CHECK(rig.client_side.complete == 2);
  CHECK(rig.admission().reserved() == 0);
}

TEST_CASE("an smbd that answers something is given its time anew") {
  SmbdExchangeRig rig(SmbdExchangeRig::limited_to(1'024 * kKiB));
  rig.open();
  rig.from_client(smb2_test::plain(smb2_test::kEcho, {.message_id = 2}));
  rig.from_client(read_of(3, 700 * kKiB));
  rig.from_client(read_of(4, 700 * kKiB));
  rig.settle();
  rig.wait(150);
  rig.smbd.answer(smb2_test::plain(smb2_test::kEcho, {.message_id = 2, .flags = smb2_test::kResponse}));
  rig.settle();
  rig.wait(150);
  CHECK(rig.smbd.heard.size() == 2);
  rig.wait(100);
  CHECK(rig.smbd.heard.size() == 3);
}

TEST_CASE("nothing is forgotten while something is held: that will be taken, and makes room") {
  SmbdExchangeRig rig(SmbdExchangeRig::limited_to(1'024 * kKiB, 255));
  rig.open();
  rig.from_client(read_of(2, 1'000 * kKiB));
  SUBCASE("an answer that the client does not take") {
    rig.from_client(read_of(3, 1'000 * kKiB));
    rig.settle();
    REQUIRE(rig.smbd.heard.size() == 2);
    rig.server_stands = true;
    rig.smbd.answer(smb2_test::read_response({.message_id = 2}, pattern(1'000 * kKiB, 1)));
  }
  SUBCASE("requests that smbd does not read") {
    rig.smbd.reads = false;
    rig.from_client(smb2_test::write_request({.message_id = 5}, {.data = pattern(700'000, 1)}));
    rig.from_client(read_of(3, 1'000 * kKiB));
    rig.settle();
    REQUIRE_FALSE(rig.exchange->outbox().empty());
  }
  SUBCASE("a WRITE whose data has not come") {
    rig.settle();
    REQUIRE(rig.smbd.heard.size() == 1);
    static Bytes memory(1'000);
    rig.server_stands = true;
    rig.from_client(smb2_test::write_request(
        {.message_id = 5},
        {.length = 1'000, .channel = 1, .memory = {rig.expose(memory, fabric::Access::remote_read)}}));
  }
  rig.settle();
  rig.from_client(read_of(4, 2'600 * kKiB));
  rig.settle();
  REQUIRE(rig.exchange->stalled());
  const uint64_t reserved = rig.admission().reserved();
  for (int i = 0; i < 10; ++i) rig.wait(500);
  CHECK(rig.exchange->stalled());
  CHECK(rig.admission().reserved() == reserved);
  rig.server_stands = false;
  rig.smbd.reads = true;
  rig.settle();
  rig.wait(500);
  CHECK_FALSE(rig.exchange->stalled());
  CHECK(rig.smbd.ids().back() == 4);
}
