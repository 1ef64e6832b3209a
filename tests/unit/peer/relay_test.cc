// SPDX-License-Identifier: MIT
// The reference peer between a scripted worker and a scripted smbd: no daemon, no RDMA, no Samba.
#include <algorithm>
#include <cstring>

#include <doctest/doctest.h>

#include "scripted.h"
#include "tests/unit/protocol/smb2/build_pdu.h"

using namespace scripted;
using proxy::FrameType;
using smb2_test::pattern;

namespace {

/// A channel that is served, after NEGOTIATE and SESSION_SETUP.
struct Served {
  explicit Served(const Worker::Settings& settings = {}) : worker(settings) {
    const Bytes negotiate = smb2_test::negotiate_request({0x0302});
    worker.accept(negotiate);
    smbd.accept();
    CHECK(smbd.receive() == negotiate);
    const Bytes answer = smb2_test::negotiate_response(0x0302);
    smbd.send(answer);
    CHECK(worker.reply().pdu == answer);
    constexpr uint64_t kId = 0x5E551045E551;
    worker.send_pdu(smb2_test::plain(smb2_test::kSessionSetup, {.message_id = kId}, 24));
    (void)smbd.receive();
    smbd.send(
        smb2_test::plain(smb2_test::kSessionSetup, {.message_id = kId, .flags = smb2_test::kResponse}, 8));
    (void)worker.reply();
  }

  // The peer's thread ends with its channel, which must go first, also when a check above fails.
  struct Ending {
    Worker& worker;
    ~Ending() { worker.end(); }
  };
  Smbd smbd;
  Worker worker;
  Peer peer{worker.start(), smbd.address()};
  Ending ending{worker};
};

Bytes echo(uint64_t id) { return smb2_test::plain(smb2_test::kEcho, {.message_id = id}); }
Bytes echo_response(uint64_t id) {
  return smb2_test::plain(smb2_test::kEcho, {.message_id = id, .flags = smb2_test::kResponse});
}

/// What smbd says unasked.
Bytes notification() {
  return smb2_test::plain(18, {.message_id = ~uint64_t{0}, .flags = smb2_test::kResponse}, 24);
}

Bytes rdma_channel_write(uint64_t id, uint32_t length, uint32_t token = 9) {
  return smb2_test::write_request({.message_id = id},
                                  {.length = length, .channel = 2, .memory = {{4096 * id, token, length}}});
}
Bytes rdma_channel_read(uint64_t id, uint32_t length, uint32_t token = 9) {
  return smb2_test::read_request({.message_id = id},
                                 {.length = length, .channel = 2, .memory = {{4096 * id, token, length}}});
}

/// What the RDMA READ would bring.
void fill(Worker& worker, const proxy::Operation& operation, std::span<const std::byte> data) {
  REQUIRE(data.size() == operation.length);
  std::ranges::copy(data, worker.area().subspan(operation.area_offset).begin());
}

std::span<const std::byte> data_of_write(const Bytes& pdu) { return std::span(pdu).subspan(112); }

}  // namespace

TEST_CASE("plain messages go both ways as they are, in order") {
  Served served;
  for (uint64_t id = 1; id <= 50; ++id) served.worker.send_pdu(echo(id));
  for (uint64_t id = 1; id <= 50; ++id) CHECK(served.smbd.receive() == echo(id));
  for (uint64_t id = 50; id >= 1; --id) served.smbd.send(echo_response(id));
  for (uint64_t id = 50; id >= 1; --id) CHECK(served.worker.reply().pdu == echo_response(id));
}

TEST_CASE("data of an RDMA-channel WRITE is read into the area, and smbd gets an ordinary WRITE") {
  Served served;
  const Bytes data = pattern(3'000'000, 1);
  served.worker.send_pdu(rdma_channel_write(1, 3'000'000));
  served.worker.send_pdu(echo(2));  // behind it
  Bytes asked;
  uint64_t offset = 4096;
  while (asked.size() < data.size()) {
    const auto [id, operation] = served.worker.operation(FrameType::rdma_read);
    REQUIRE(operation.memory.size() == 1);
    CHECK(operation.memory[0].token == 9);
    CHECK(operation.memory[0].offset == offset);
    fill(served.worker, operation, std::span(data).subspan(asked.size(), operation.length));
    asked.resize(asked.size() + operation.length);
    offset += operation.length;
    served.worker.send_done(id);
  }
  const Bytes write = served.smbd.receive();
  CHECK(smb2_test::get(write, 96, 4) == 0);  // Channel
  CHECK(smb2_test::get(write, 68, 4) == data.size());
  CHECK(std::ranges::equal(data_of_write(write), data));
  CHECK(served.smbd.receive() == echo(2));

  const Bytes response = smb2_test::write_response({.message_id = 1}, 3'000'000);
  served.smbd.send(response);
  const auto reply = served.worker.reply();
  CHECK(reply.pdu == response);
  CHECK(reply.invalidate == std::vector<uint32_t>{9});
}

TEST_CASE("a request behind an RDMA-channel WRITE waits for its data") {
  Served served;
  served.worker.send_pdu(rdma_channel_write(1, 100));
  served.worker.send_pdu(echo(2));
  served.worker.send_pdu(rdma_channel_write(3, 100));
  const auto first = served.worker.operation(FrameType::rdma_read);
  const auto second = served.worker.operation(FrameType::rdma_read);  // asked for ahead
  fill(served.worker, second.second, pattern(100, 3));
  served.worker.send_done(second.first);
  CHECK(served.worker.quiet());
  fill(served.worker, first.second, pattern(100, 1));
  served.worker.send_done(first.first);
  CHECK(std::ranges::equal(data_of_write(served.smbd.receive()), pattern(100, 1)));
  CHECK(served.smbd.receive() == echo(2));
  CHECK(std::ranges::equal(data_of_write(served.smbd.receive()), pattern(100, 3)));
}

TEST_CASE("data that answers an RDMA-channel READ is in the area before the message that says so") {
  Served served;
  const Bytes data = pattern(2'500'000, 2);
  served.worker.send_pdu(rdma_channel_read(1, 4'000'000, 77));
  const Bytes read = served.smbd.receive();
  CHECK(smb2_test::get(read, 100, 4) == 0);
  served.smbd.send(smb2_test::read_response({.message_id = 1}, data));
  Bytes placed;
  while (placed.size() < data.size()) {
    const auto [id, operation] = served.worker.operation(FrameType::rdma_write);
    REQUIRE(operation.memory.size() == 1);
    CHECK(operation.memory[0].token == 77);
    CHECK(operation.memory[0].offset == 4096 + placed.size());
    const auto part = served.worker.area().subspan(operation.area_offset, operation.length);
    placed.insert(placed.end(), part.begin(), part.end());
    served.worker.send_done(id);
  }
  CHECK(placed == data);
  const auto reply = served.worker.reply();
  CHECK(reply.pdu.size() == 80);
  CHECK(smb2_test::get(reply.pdu, 72, 4) == data.size());  // DataRemaining: what was placed
  CHECK(reply.invalidate == std::vector<uint32_t>{77});
}

TEST_CASE("an RDMA-channel READ of a few bytes, and one of none") {
  Served served;
  served.worker.send_pdu(rdma_channel_read(1, 100));
  served.worker.send_pdu(rdma_channel_read(2, 100));
  (void)served.smbd.receive();
  (void)served.smbd.receive();
  served.smbd.send(smb2_test::read_response({.message_id = 1}, pattern(5, 1)));
  served.smbd.send(smb2_test::read_response({.message_id = 2}, {}));
  const auto [id, operation] = served.worker.operation(FrameType::rdma_write);
  CHECK(std::ranges::equal(served.worker.area().subspan(operation.area_offset, operation.length),
                           pattern(5, 1)));
  CHECK(smb2_test::get(served.worker.reply().pdu, 24, 8) == 1);
  CHECK(smb2_test::get(served.worker.reply().pdu, 24, 8) == 2);
  served.worker.send_done(id);
}

TEST_CASE("a compound of RDMA-channel READs: all is placed, then the chain is sent without its data") {
  Served served;
  served.worker.send_pdu(smb2_test::chain({rdma_channel_read(1, 1000, 5), rdma_channel_read(2, 1000, 6)}));
  (void)served.smbd.receive();
  served.smbd.send(smb2_test::chain({smb2_test::read_response({.message_id = 1}, pattern(1000, 1)),
                                     smb2_test::read_response({.message_id = 2}, pattern(700, 2))}));
  for (const uint32_t which : {1u, 2u}) {
    const auto [id, operation] = served.worker.operation(FrameType::rdma_write);
    CHECK(operation.memory.at(0).offset == 4096 * which);
    CHECK(std::ranges::equal(served.worker.area().subspan(operation.area_offset, operation.length),
                             pattern(which == 1 ? 1000 : 700, which)));
    served.worker.send_done(id);
  }
  const auto reply = served.worker.reply();
  CHECK(reply.pdu.size() == 160);
  CHECK(reply.invalidate == std::vector<uint32_t>{5, 6});
}

TEST_CASE("an RDMA-channel WRITE that finds the area full waits for room") {
  Served served({.area = 128 * 1024});
  for (const uint64_t id : {1, 2}) served.worker.send_pdu(rdma_channel_write(id, 40'000));
  const auto first = served.worker.operation(FrameType::rdma_read);
  CHECK(served.worker.quiet());
  fill(served.worker, first.second, pattern(40'000, 1));
  served.worker.send_done(first.first);
  CHECK(std::ranges::equal(data_of_write(served.smbd.receive()), pattern(40'000, 1)));
  const auto second = served.worker.operation(FrameType::rdma_read);
  fill(served.worker, second.second, pattern(40'000, 2));
  served.worker.send_done(second.first);
  CHECK(std::ranges::equal(data_of_write(served.smbd.receive()), pattern(40'000, 2)));
}

TEST_CASE("what is larger than the area goes through it in parts") {
  Served served({.area = 128 * 1024});
  const Bytes data = pattern(1'000'000, 4);
  served.worker.send_pdu(rdma_channel_write(1, 1'000'000));
  served.worker.send_pdu(rdma_channel_read(2, 1'000'000));
  for (size_t at = 0; at < data.size();) {
    const auto [id, operation] = served.worker.operation(FrameType::rdma_read);
    fill(served.worker, operation, std::span(data).subspan(at, operation.length));
    at += operation.length;
    served.worker.send_done(id);
  }
  CHECK(std::ranges::equal(data_of_write(served.smbd.receive()), data));
  (void)served.smbd.receive();
  std::jthread answering([&] { served.smbd.send(smb2_test::read_response({.message_id = 2}, data)); });
  Bytes placed;
  while (placed.size() < data.size()) {
    const auto [id, operation] = served.worker.operation(FrameType::rdma_write);
    const auto part = served.worker.area().subspan(operation.area_offset, operation.length);
    placed.insert(placed.end(), part.begin(), part.end());
    served.worker.send_done(id);
  }
  CHECK(placed == data);
  CHECK(served.worker.reply().pdu.size() == 80);
}

TEST_CASE("no more operations are asked for than may be under way") {
  Served served({.max_operations = 2});
  for (const uint64_t id : {1, 2, 3}) served.worker.send_pdu(rdma_channel_write(id, 100));
  const auto first = served.worker.operation(FrameType::rdma_read);
  (void)served.worker.operation(FrameType::rdma_read);
  CHECK(served.worker.quiet());
  served.worker.send_done(first.first);
  (void)served.worker.operation(FrameType::rdma_read);
}

TEST_CASE("an smbd that reads nothing is read all the same, and what waits for it is bounded") {
  Served served;
  const Bytes big = smb2_test::write_request({.message_id = 1}, {.data = pattern(1 << 20, 1)});
  size_t sent = 0;
  size_t whole = 0;
  while (true) {
    Bytes pdu = big;
    smb2_test::put(pdu, 24, whole + 1, 8);
    const Bytes frame = Worker::pdu_frame(pdu);
    const size_t here = served.worker.send_some(frame);
    sent += here;
    if (here < frame.size()) {
      // It must still see the rest of this one, once smbd reads.
      served.smbd.send(notification());
      CHECK(served.worker.reply().pdu == notification());
      std::jthread rest([&] {
        for (size_t at = here; at < frame.size();)
          at += served.worker.send_some(std::span(frame).subspan(at));
      });
      for (size_t i = 0; i <= whole; ++i) {
        const Bytes got = served.smbd.receive();
        CHECK(smb2_test::get(got, 24, 8) == i + 1);
        CHECK(got.size() == big.size());
      }
      break;
    }
    ++whole;
    REQUIRE(whole < 64);
  }
  CHECK(sent > 16u << 20);
  CHECK(sent < 32u << 20);
}

TEST_CASE("a large message passes while smbd's own fills its socket") {
  Served served;
  const Bytes request = smb2_test::write_request({.message_id = 1}, {.data = pattern(8 << 20, 1)});
  const Bytes response = smb2_test::read_response({.message_id = 2}, pattern(8 << 20, 2));
  const Bytes plain_read = smb2_test::read_request({.message_id = 2}, {.length = 8 << 20});
  served.worker.send_pdu(plain_read);
  CHECK(served.smbd.receive() == plain_read);
  std::jthread client([&] { served.worker.send_pdu(request); });
  std::jthread answering([&] { served.smbd.send(response); });
  client.join();
  CHECK(served.worker.reply().pdu == response);
  answering.join();
  CHECK(served.smbd.receive() == request);
}

TEST_CASE("smbd closes: what it said is delivered, then the channel ends") {
  Served served;
  served.worker.send_pdu(echo(1));
  (void)served.smbd.receive();
  served.smbd.send(echo_response(1));
  served.smbd.end();
  CHECK(served.worker.reply().pdu == echo_response(1));
  served.peer.join();
}

TEST_CASE("the client's connection ends: smbd's does") {
  Served served;
  served.worker.end();
  CHECK(served.smbd.closed());
}

TEST_CASE("a DONE for nothing that was asked ends the channel") {
  Served served;
  served.worker.send_done(4711);
  CHECK(served.smbd.closed());
}

TEST_CASE("another channel of the client is served by the same process, with a connection of its own") {
  Served served;
  Worker second({});
  const Bytes negotiate = smb2_test::negotiate_request({0x0302}, 7);
  second.arrive_with(served.worker, negotiate);
  const Served::Ending ending{second};
  Smbd::Connection other = served.smbd.accept_another();
  CHECK(other.receive() == negotiate);
  const Bytes answer = smb2_test::negotiate_response(0x0302, 8 << 20, 8 << 20, 7);
  other.send(answer);
  CHECK(second.reply().pdu == answer);
  // Each ends by itself.
  served.worker.end();
  CHECK(served.smbd.closed());
  second.send_pdu(echo(5));
  CHECK(other.receive() == echo(5));
}
