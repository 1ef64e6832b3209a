// SPDX-License-Identifier: MIT
// A READ that names client memory: smbd answers a plain READ, whose data goes there by RDMA WRITE, before the
// answer that says so.
#include <doctest/doctest.h>

#include "smbd_exchange_rig.h"

using namespace smbdirect::workers;  // NOLINT: a test speaks of one thing
using namespace smbdirect::workers::session_test;
using fabric::Access;
using smb2_test::operator+;
using smb2_test::pattern;

namespace {

constexpr uint32_t kWithInvalidate = 2;

Bytes rdma_channel_read(uint64_t id, uint32_t length, std::vector<smb2::BufferDescriptor> memory,
                        uint32_t channel = kWithInvalidate) {
  return smb2_test::read_request({.message_id = id},
                                 {.length = length, .channel = channel, .memory = std::move(memory)});
}

}  // namespace

TEST_CASE(
    "the data is placed over the client's memory in order, then the answer comes, and its token is gone") {
  SmbdExchangeRig rig;
  rig.open();
  Bytes small(10), large(530'000), last(1'000);
  const std::vector memory{rig.expose(small, Access::remote_write), rig.expose(large, Access::remote_write),
                           rig.expose(last, Access::remote_write)};
  rig.from_client(rdma_channel_read(2, 531'000, memory));
  rig.settle();
  REQUIRE(rig.smbd.heard == Messages{smb2_test::read_request({.message_id = 2}, {.length = 531'000})});
  const Bytes data = pattern(530'900, 1);  // less than was asked for
  // Sometimes smbd leaves room before the data.
  Bytes answer = smb2_test::read_response({.message_id = 2}, {});
  size_t behind = 0;
  SUBCASE("right behind the header") {}
  SUBCASE("with a gap") {
    answer.resize(88);
    answer[66] = std::byte{88};
  }
  SUBCASE("with more behind it") { behind = 9; }
  smb2_test::put(answer, 68, data.size(), 4);
  rig.smbd.answer(answer + data + pattern(behind, 2));
  rig.settle();
  REQUIRE(rig.broken.empty());
  const Bytes written = small + large + last;
  CHECK(smb2_test::cut(written, data.size()) == data);
  CHECK(smb2_test::get(written, data.size(), 8) == 0);
  REQUIRE(rig.client_side.complete == 1);
  const Bytes& said = rig.client_side.messages[0];
  CHECK(said.size() == 80);
  CHECK(smb2_test::get(said, 24, 8) == 2);
  CHECK(smb2_test::get(said, 68, 4) == 0);            // DataLength
  CHECK(smb2_test::get(said, 72, 4) == data.size());  // DataRemaining (MS-SMB2 2.2.20)
  CHECK(rig.client_side.invalidated == std::vector<uint32_t>{memory[0].token});
  CHECK(rig.server->counters().rdma_write_bytes == data.size());
  CHECK(rig.copied() < 500);  // the request
  CHECK(rig.held() == 0);
}

TEST_CASE("an error is passed as it is, and the client's memory is given back with it") {
  SmbdExchangeRig rig;
  rig.open();
  Bytes memory(100);
  const auto at = rig.expose(memory, Access::remote_write);
  rig.from_client(rdma_channel_read(2, 100, {at}));
  rig.settle();
  const Bytes answer =
      smb2_test::error_response(smb2_test::kRead, {.message_id = 2, .status = smb2_test::kEndOfFile});
  rig.smbd.answer(answer);
  rig.settle();
  CHECK(rig.client_side.messages == Messages{answer});
  CHECK(rig.client_side.invalidated == std::vector<uint32_t>{at.token});
  CHECK(memory == Bytes(100));
}

TEST_CASE(
    "a compound's READs are placed too, whether it came at once or in pieces, and copied at most once") {
  SmbdExchangeRig rig;
  rig.open();
  Bytes one(300), two(100'000);
  const auto first = rig.expose(one, Access::remote_write), second = rig.expose(two, Access::remote_write);
  rig.from_client(
      smb2_test::chain({rdma_channel_read(2, 300, {first}), rdma_channel_read(3, 100'000, {second})}));
  rig.settle();
  REQUIRE(rig.smbd.heard.size() == 1);
  const Bytes data = pattern(300, 1), more = pattern(100'000, 2);
  const Bytes answer = smb2_test::chain(
      {smb2_test::read_response({.message_id = 2}, data), smb2_test::read_response({.message_id = 3}, more)});
  const uint64_t before = rig.copied();
  uint64_t copies = 0;
  SUBCASE("at once") {}
  SUBCASE("in pieces") {
    rig.smbd.at_a_time = 997;
    copies = 1;
  }
  rig.smbd.answer(answer);
  rig.settle();
  CHECK(rig.copied() - before == copies * answer.size());
  CHECK(one == data);
  CHECK(two == more);
  REQUIRE(rig.client_side.complete == 1);
  CHECK(rig.client_side.messages[0].size() == 160);
  CHECK(rig.client_side.invalidated == std::vector<uint32_t>{first.token, second.token});
  CHECK(rig.held() == 0);
}

TEST_CASE("READs and other answers reach the client in the order in which smbd gives them") {
  SmbdExchangeRig rig;
  rig.open();
  std::vector<Bytes> memories(6, Bytes(70'000));
  for (uint64_t id = 2; id < 8; ++id)
    rig.from_client(rdma_channel_read(id, 70'000, {rig.expose(memories[id - 2], Access::remote_write)}));
  rig.settle();
  REQUIRE(rig.smbd.heard.size() == 6);
  const std::vector<uint64_t> order{5, 2, 7, 4, 6, 3};
  for (const uint64_t id : order)
    rig.smbd.answer(
        id % 2 == 0
            ? smb2_test::error_response(smb2_test::kRead, {.message_id = id, .status = smb2_test::kEndOfFile})
            : smb2_test::read_response({.message_id = id}, pattern(70'000, uint32_t(id))));
  rig.settle();
  std::vector<uint64_t> seen;
  for (const Bytes& message : rig.client_side.messages) seen.push_back(smb2_test::get(message, 24, 8));
  CHECK(seen == order);
  for (const uint64_t id : {3, 5, 7}) CHECK(memories[id - 2] == pattern(70'000, uint32_t(id)));
}
