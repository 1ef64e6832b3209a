// SPDX-License-Identifier: MIT
// What goes out on a channel: messages of any size to a worker of any speed, RDMA operations, and who may ask
// for what.
#include <chrono>

#include <doctest/doctest.h>

#include "other_side.h"

using namespace proxy_test;  // NOLINT: the tests' own helpers

namespace {

constexpr size_t kLarge = 8 * 1024 * 1024;

void flush_all(smbdirect_channel* channel) {
  int64_t before = INT64_MAX;
  for (;;) {
    const int64_t left = smbdirect_channel_flush(channel);
    REQUIRE(left >= 0);
    CHECK(left <= before);
    before = left;
    CHECK(smbdirect_channel_events(channel) == (left > 0 ? POLLIN | POLLOUT : POLLIN));
    if (left == 0) return;
    pollfd entry{.fd = smbdirect_channel_fd(channel), .events = POLLOUT, .revents = 0};
    REQUIRE(poll(&entry, 1, 10'000) == 1);
  }
}

}  // namespace

TEST_CASE("nothing is sent before the channel is attached") {
  Opened opened;
  CHECK(send_pdu(*opened, pattern(64, 1)) == -EINVAL);
  CHECK(read_one(*opened, 1) == -EINVAL);
  CHECK(opened.worker.silent());
  opened.attach();
  CHECK(send_pdu(*opened, pattern(64, 1)) == 0);
  CHECK(opened.worker.hear_frame().body == pattern(64, 1));
}

TEST_CASE("a message is sent in the pieces it is given in, after the tokens to invalidate") {
  Opened opened;
  opened.attach();
  const Bytes a = pattern(100, 1);
  const Bytes b = pattern(3000, 2);
  const auto piece = [](const Bytes& bytes) {
    return iovec{.iov_base = const_cast<std::byte*>(bytes.data()), .iov_len = bytes.size()};
  };
  const iovec pieces[] = {piece(a), {.iov_base = nullptr, .iov_len = 0}, piece(b)};
  std::array<uint32_t, 17> tokens{};
  tokens[0] = 0x01020304;
  tokens[15] = 0xFFFFFFFE;
  for (const size_t count : {0U, 1U, 16U}) {
    CHECK(smbdirect_send_pdu(*opened, pieces, 3, tokens.data(), count) == 0);
    const auto heard = opened.worker.hear_frame();
    CHECK(heard.header.type == FrameType::reply);
    REQUIRE(heard.header.count == count);
    REQUIRE(heard.body.size() == 4 * count + 3100);
    if (count > 0)
      CHECK(Bytes(heard.body.begin(), heard.body.begin() + 4) ==
            Bytes{std::byte{4}, std::byte{3}, std::byte{2}, std::byte{1}});
    if (count > 15) CHECK(heard.body[60] == std::byte{0xFE});
    CHECK(Bytes(heard.body.begin() + std::ptrdiff_t(4 * count), heard.body.end()) == a + b);
  }
  CHECK(smbdirect_send_pdu(*opened, pieces, 3, tokens.data(), 17) == -EINVAL);
  CHECK(smbdirect_send_pdu(*opened, pieces, 0, nullptr, 0) == -EINVAL);
  CHECK(smbdirect_send_pdu(*opened, pieces, -1, nullptr, 0) == -EINVAL);
  CHECK(smbdirect_send_pdu(*opened, nullptr, 1, nullptr, 0) == -EINVAL);
  CHECK(smbdirect_send_pdu(*opened, pieces, 3, nullptr, 1) == -EINVAL);
  const iovec nowhere{.iov_base = nullptr, .iov_len = 5};
  CHECK(smbdirect_send_pdu(*opened, &nowhere, 1, nullptr, 0) == -EINVAL);
  CHECK(smbdirect_send_pdu(*opened, &pieces[1], 1, nullptr, 0) == -EINVAL);  // no bytes
  CHECK(opened.worker.silent());
}

TEST_CASE("more pieces than one system call takes") {
  Opened opened;
  opened.attach();
  const Bytes bytes = pattern(3000, 5);
  std::vector<iovec> pieces;
  for (const std::byte& byte : bytes)
    pieces.push_back({.iov_base = const_cast<std::byte*>(&byte), .iov_len = 1});
  REQUIRE(smbdirect_send_pdu(*opened, pieces.data(), int(pieces.size()), nullptr, 0) == 0);
  CHECK(smbdirect_channel_flush(*opened) == 0);
  CHECK(opened.worker.hear_frame().body == bytes);
}

TEST_CASE("a message is no larger than the client takes") {
  proxy::Facts facts = some_facts();
  facts.max_pdu = 1000;
  Opened opened(facts);
  opened.attach();
  Bytes bytes = pattern(1000, 1);
  CHECK(send_pdu(*opened, bytes) == 0);
  bytes.push_back({});
  CHECK(send_pdu(*opened, bytes) == -EMSGSIZE);
  const iovec huge[] = {{.iov_base = bytes.data(), .iov_len = 1},
                        {.iov_base = bytes.data(), .iov_len = SIZE_MAX}};
  CHECK(smbdirect_send_pdu(*opened, huge, 2, nullptr, 0) == -EMSGSIZE);
  CHECK(opened.worker.hear_frame().body.size() == 1000);
  CHECK(opened.worker.silent());
}

TEST_CASE("8 MiB to a worker that reads slowly, and what was sent after it") {
  Opened opened;
  opened.attach();
  const Bytes first = pattern(kLarge, 1);
  const Bytes second = pattern(kLarge, 2);
  CHECK(send_pdu(*opened, first) == 0);
  CHECK(smbdirect_channel_events(*opened) == (POLLIN | POLLOUT));
  CHECK(smbdirect_channel_flush(*opened) > int64_t(kLarge / 2));
  CHECK(send_pdu(*opened, pattern(10, 3)) == 0);
  CHECK(read_one(*opened, 77) == 0);
  CHECK(send_pdu(*opened, second) == 0);
  std::vector<OtherSide::Heard> heard;
  {
    const std::jthread slow([&] {
      for (int i = 0; i < 4; ++i) {
        heard.push_back(opened.worker.hear_frame());
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
      }
    });
    flush_all(*opened);
  }
  CHECK(heard[0].body == first);
  CHECK(heard[1].body == pattern(10, 3));
  CHECK(heard[2].header.id == 77);
  CHECK(heard[3].body == second);
  CHECK(send_pdu(*opened, pattern(64, 4)) == 0);
  CHECK(smbdirect_channel_events(*opened) == POLLIN);
  CHECK(opened.worker.hear_frame().body == pattern(64, 4));
}

TEST_CASE("large messages from the worker, between small ones") {
  Opened opened;
  const size_t sizes[] = {64, kLarge, 1, 65536 - 16, 65536 - 15, proxy::kMaxPdu, 200'000, 64};
  const std::jthread worker([&] {
    unsigned seed = 0;
    for (const size_t size : sizes) opened.worker.say(frame(FrameType::pdu, pattern(size, ++seed)));
  });
  unsigned seed = 0;
  for (const size_t size : sizes) {
    smbdirect_event event{};
    REQUIRE(await_event(*opened, event) == 1);
    REQUIRE(event.type == SMBDIRECT_EVENT_PDU);
    CHECK(event.pdu_size == size);
    CHECK(pdu_of(event) == pattern(size, ++seed));
  }
}

TEST_CASE("an operation is sent as it was asked for") {
  Opened opened;
  opened.attach();
  const smbdirect_descriptor memory[] = {{.offset = 0x1122334455667788, .token = 0xAABBCCDD, .length = 1000},
                                         {.offset = 1, .token = 2, .length = 3}};
  CHECK(smbdirect_rdma_read(*opened, 0x0102030405060708, 4096, 1003, memory, 2) == 0);
  CHECK(smbdirect_rdma_write(*opened, UINT64_MAX, kAreaBytes - 7, 7, memory, 1) == 0);
  const auto read = opened.worker.hear_frame();
  CHECK(read.header.type == FrameType::rdma_read);
  CHECK(read.header.id == 0x0102030405060708);
  proxy::Operation operation;
  REQUIRE(proxy::parse_operation(read.body, read.header.count, operation));
  CHECK(operation.area_offset == 4096);
  CHECK(operation.length == 1003);
  REQUIRE(operation.memory.size() == 2);
  CHECK(operation.memory[0].offset == 0x1122334455667788);
  CHECK(operation.memory[0].token == 0xAABBCCDD);
  CHECK(operation.memory[0].length == 1000);
  const auto write = opened.worker.hear_frame();
  CHECK(write.header.type == FrameType::rdma_write);
  CHECK(write.header.id == UINT64_MAX);
  REQUIRE(proxy::parse_operation(write.body, write.header.count, operation));
  CHECK(operation.area_offset == kAreaBytes - 7);
}

TEST_CASE("an operation that cannot be is refused before it is sent") {
  Opened opened;
  opened.attach();
  std::vector<smbdirect_descriptor> memory(SMBDIRECT_MAX_DESCRIPTORS + 1,
                                           {.offset = 0, .token = 1, .length = 16});
  const auto asked = [&](size_t offset, size_t length, size_t count, uint64_t id = 1) {
    return smbdirect_rdma_write(*opened, id, offset, length, memory.data(), count);
  };
  CHECK(asked(0, 0, 1) == -EINVAL);
  CHECK(asked(0, 16, 0) == -EINVAL);
  CHECK(asked(0, 17, 1) == -EINVAL);
  CHECK(asked(0, 16, SMBDIRECT_MAX_DESCRIPTORS + 1) == -EINVAL);
  CHECK(smbdirect_rdma_read(*opened, 1, 0, 16, nullptr, 1) == -EINVAL);
  CHECK(asked(kAreaBytes, 1, 1) == -ERANGE);
  CHECK(asked(kAreaBytes - 15, 16, 1) == -ERANGE);
  CHECK(asked(SIZE_MAX, 16, 1) == -ERANGE);
  CHECK(asked(SIZE_MAX - 15, 16, 1) == -ERANGE);
  memory[0].length = memory[1].length = UINT32_MAX;
  CHECK(asked(0, size_t{UINT32_MAX} + 1, 2) == -EINVAL);
  CHECK(asked(0, UINT32_MAX, 2) == -ERANGE);
  CHECK(opened.worker.silent());
  CHECK(asked(0, kAreaBytes, SMBDIRECT_MAX_DESCRIPTORS) == 0);
  CHECK(opened.worker.hear_frame().header.count == SMBDIRECT_MAX_DESCRIPTORS);
  CHECK(asked(0, 1, 1, 1) == -EEXIST);
}

TEST_CASE("so many operations may be without their DONE, and no more") {
  Opened opened;
  opened.attach();
  for (const uint64_t id : {30U, 10U, 20U}) CHECK(read_one(*opened, id) == 0);
  CHECK(read_one(*opened, 40) == -EAGAIN);
  CHECK(read_one(*opened, 10) == -EEXIST);
  smbdirect_event event{};
  for (const uint64_t id : {10U, 30U}) {
    opened.worker.say(frame(FrameType::done, {}, id));
    REQUIRE(smbdirect_channel_next(*opened, &event) == 1);
    CHECK(event.id == id);
    CHECK(read_one(*opened, id) == 0);  // again, with the same id
    CHECK(read_one(*opened, 40) == -EAGAIN);
  }
}
