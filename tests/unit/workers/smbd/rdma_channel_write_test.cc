// SPDX-License-Identifier: MIT
// A WRITE that names client memory: its data comes by RDMA READ and goes to smbd as a plain WRITE.
#include <doctest/doctest.h>

#include "smbd_exchange_rig.h"

using namespace smbdirect::workers;  // NOLINT: a test speaks of one thing
using namespace smbdirect::workers::session_test;
using fabric::Access;
using smb2_test::pattern;

namespace {

Bytes rdma_channel_write(uint64_t id, uint32_t length, std::vector<smb2::BufferDescriptor> memory) {
  return smb2_test::write_request({.message_id = id},
                                  {.length = length, .channel = 1, .memory = std::move(memory)});
}
Bytes plain_write(uint64_t id, std::span<const std::byte> data) {
  return smb2_test::write_request({.message_id = id}, {.data = {data.begin(), data.end()}});
}

}  // namespace

TEST_CASE(
    "the data of an RDMA-channel WRITE is gathered from the client's memory in order, whatever its pieces") {
  SmbdExchangeRig rig;
  rig.open();
  // Over several slabs; a byte; one that is used in part.
  Bytes large = pattern(600'000, 1), byte = pattern(1, 2), last = pattern(300'000, 3);
  const std::vector memory{rig.expose(large, Access::remote_read), rig.expose(byte, Access::remote_read),
                           rig.expose(last, Access::remote_read)};
  const Bytes data = smb2_test::cut(smb2_test::operator+(smb2_test::operator+(large, byte), last), 850'000);
  const Bytes request = rdma_channel_write(2, 850'000, memory);
  rig.from_client(request);
  rig.settle();
  CHECK(rig.smbd.heard == Messages{plain_write(2, data)});
  CHECK(rig.copied() == request.size());  // what names the memory, and none of the data
  CHECK(rig.held() == 0);
  CHECK_FALSE(rig.exchange->unfinished());
}

TEST_CASE("RDMA-channel WRITEs go to smbd in their order, with all that came between them") {
  SmbdExchangeRig rig;
  rig.open();
  std::vector<Bytes> memories;
  for (uint32_t i = 0; i < 8; ++i) memories.push_back(pattern(1 + i * 90'000, i));
  Messages expected;
  uint64_t id = 2;
  for (Bytes& memory : memories) {
    rig.from_client(rdma_channel_write(id, static_cast<uint32_t>(memory.size()),
                                       {rig.expose(memory, Access::remote_read)}));
    expected.push_back(plain_write(id++, memory));
    rig.from_client(expected.emplace_back(smb2_test::plain(smb2_test::kClose, {.message_id = id++}, 24)));
  }
  rig.settle();
  CHECK(rig.smbd.heard == expected);
}

TEST_CASE("a compound has the data of each of its RDMA-channel WRITEs in its place") {
  SmbdExchangeRig rig;
  rig.open();
  Bytes one = pattern(300'000, 1), two = pattern(7, 2);
  const auto first = rig.expose(one, Access::remote_read), second = rig.expose(two, Access::remote_read);
  const Bytes close = smb2_test::plain(smb2_test::kClose, {.message_id = 4}, 24);
  rig.from_client(
      smb2_test::chain({rdma_channel_write(2, 300'000, {first}), rdma_channel_write(3, 7, {second}), close}));
  rig.settle();
  CHECK(rig.smbd.heard == Messages{smb2_test::chain({plain_write(2, one), plain_write(3, two), close})});
}

TEST_CASE("an RDMA-channel WRITE passes through less memory than it has bytes") {
  SmbdExchangeRig rig(SmbdExchangeRig::limited_to(1u << 20));
  rig.open();
  Bytes memory = pattern(8u << 20, 1);
  rig.from_client(rdma_channel_write(2, 8u << 20, {rig.expose(memory, Access::remote_read)}));
  rig.settle();
  CHECK(rig.smbd.heard == Messages{plain_write(2, memory)});
}

TEST_CASE("for an smbd that reads nothing no more is fetched than its connection may hold") {
  SmbdExchangeRig rig(SmbdExchangeRig::limited_to(1u << 20));
  rig.open();
  rig.smbd.reads = false;
  std::vector<Bytes> memories;
  Messages expected;
  for (uint64_t id = 2; id < 6; ++id) memories.push_back(pattern(4u << 20, static_cast<uint32_t>(id)));
  for (uint64_t id = 2; id < 6; ++id) {
    Bytes& memory = memories[id - 2];
    rig.from_client(rdma_channel_write(id, 4u << 20, {rig.expose(memory, Access::remote_read)}));
    expected.push_back(plain_write(id, memory));
  }
  rig.settle();
  CHECK(rig.held() <= rig.payload.limit() + ExchangeHost::kSlab);
  rig.smbd.reads = true;
  rig.settle();
  for (int round = 0; round < 1'000 && rig.smbd.heard.size() < expected.size(); ++round) rig.wait(20);
  CHECK(rig.smbd.heard == expected);
}
