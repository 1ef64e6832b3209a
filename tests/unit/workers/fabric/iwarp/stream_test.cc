// SPDX-License-Identifier: MIT
// One stream and what is fed to it: what it says itself, and the odd things that a peer may do.
#include "workers/fabric/iwarp/stream.h"

#include <algorithm>
#include <vector>

#include <doctest/doctest.h>

#include "stream_victim.h"

namespace smbdirect::test {
namespace {

using iwarp::Stream;

TEST_CASE("a peer that mixes other messages into its Read Responses is understood") {
  // The response is read ahead on the guess that it is not mixed.
  for (const size_t piece : {size_t{1} << 20, size_t{1000}, size_t{33}, size_t{5000}}) {
    for (int where = 0; where < 6; ++where) {
      CAPTURE(piece);
      CAPTURE(where);
      Stream stream(kLimits);
      stream.establish({.crc = true, .ird = 2, .ord = 4}, 1448, true);
      std::vector<std::byte> sink(10'000), receive(3000);
      const auto data = random_bytes(10'000, 17), message = random_bytes(2500, 18);
      REQUIRE(stream.post_read(1, sge(sink), {.offset = 1, .token = 2}));
      REQUIRE(stream.post_receive(2, sge(receive)));
      const auto request = take_all(stream);
      const uint32_t stag = iwarp::get_be32(request.data() + 20);
      const uint64_t offset = iwarp::get_be64(request.data() + 24);
      std::vector<std::byte> wire;
      size_t at = 0;
      int segment = 0;
      while (at < data.size()) {
        if (segment++ == where) wire = wire + fpdu(send_header(1), message);
        // Segments of one size, but one of them is cut in two.
        const size_t size = std::min<size_t>(segment == 4 ? 800 : 2000, data.size() - at);
        wire = wire + fpdu({.tagged = true,
                            .last = at + size == data.size(),
                            .opcode = 2,
                            .stag = stag,
                            .offset = offset + at},
                           std::span(data).subspan(at, size));
        at += size;
      }
      wire = wire + fpdu({.tagged = true, .last = true, .opcode = 0}, {});
      CHECK(feed(stream, wire, piece) == wire.size());
      CHECK_FALSE(stream.fault().has_value());
      CHECK(stream.at_boundary());
      REQUIRE(stream.completions().size() == 2);
      CHECK(sink == data);
      CHECK(std::equal(message.begin(), message.end(), receive.begin()));
    }
  }
}

TEST_CASE("the accepting side is silent until it has heard something") {
  Stream stream(kLimits);
  stream.establish({.crc = true, .ird = 2, .ord = 2}, 1448, false);
  REQUIRE(stream.post_send(1, {}, nullptr));
  CHECK(stream.send_vectors().empty());
  CHECK(stream.drained());                                                   // nothing that may be sent
  feed(stream, fpdu({.tagged = true, .last = true, .opcode = 0}, {}), 100);  // a zero-length WRITE as RTR
  CHECK_FALSE(stream.send_vectors().empty());
  CHECK_FALSE(stream.drained());
}

TEST_CASE("ready-to-receive messages") {
  // A zero-length READ as RTR is answered like any other.
  Stream reading(kLimits);
  reading.establish({.crc = false, .ird = 1, .ord = 1}, 1448, false);
  feed(reading, read_request_fpdu(1, {.sink_stag = 3, .sink_offset = 4, .size = 0}, false), 100);
  CHECK(take_all(reading) ==
        fpdu({.tagged = true, .last = true, .opcode = 2, .stag = 3, .offset = 4}, {}, false));
  // An empty FPDU or SEND, where that was agreed, takes no receive.
  for (const auto& first : {fpdu(std::span<const std::byte>{}), fpdu(send_header(1))}) {
    Stream stream(kLimits);
    stream.establish({.crc = true, .ird = 1, .ord = 1, .rtr_empty = true}, 1448, false);
    std::vector<std::byte> memory(10);
    REQUIRE(stream.post_receive(1, sge(memory)));
    REQUIRE(stream.post_send(1, {}, nullptr));
    feed(stream, first, 1);
    CHECK_FALSE(stream.fault().has_value());
    CHECK(stream.completions().empty());
    CHECK_FALSE(stream.send_vectors().empty());
    const bool counted = first.size() > 8;  // a SEND has used up sequence number 1
    feed(stream, fpdu(send_header(counted ? 2 : 1), bytes_of(5)), 100);
    CHECK(stream.completions().size() == 1);
    feed(stream, fpdu(std::span<const std::byte>{}), 100);  // only ever the first
    CHECK(stream.fault().has_value());
  }
}

TEST_CASE("posting: limits and refusals") {
  Victim v;
  std::vector<fabric::Sge> many(17, {v.memory.data(), 1, 0});
  CHECK(v.stream.post_send(1, many, nullptr).error() == fabric::PostError::too_many_sges);
  many.pop_back();
  REQUIRE(v.stream.post_send(1, many, nullptr));
  CHECK(v.stream.send_room() == 7);
  std::vector<fabric::Sge> huge(2, {v.memory.data(), 0xffffffff, 0});
  CHECK(v.stream.post_write(1, huge, {}).error() == fabric::PostError::too_many_sges);
  for (int i = 0; i < 7; ++i) REQUIRE(v.stream.post_read(1, {v.memory.data(), 1, 0}, {}));
  CHECK(v.stream.send_room() == 0);
  CHECK(v.stream.post_send(1, {}, nullptr).error() == fabric::PostError::queue_full);
  CHECK(v.stream.post_read(1, {}, {}).error() == fabric::PostError::queue_full);
  for (int i = 0; i < 8; ++i) REQUIRE(v.stream.post_receive(1, {v.memory.data(), 1, 0}));
  CHECK(v.stream.post_receive(1, {}).error() == fabric::PostError::queue_full);
}

TEST_CASE("no more READs are outstanding than was agreed") {
  for (const uint16_t ord : {uint16_t{1}, uint16_t{3}}) {
    Stream stream(kLimits);
    stream.establish({.crc = false, .ird = 1, .ord = ord}, 1448, true);
    std::vector<std::byte> memory(8);
    for (int i = 0; i < 8; ++i)
      REQUIRE(stream.post_read(static_cast<uint64_t>(i), sge(memory), {.offset = 0, .token = 9}));
    const auto requests = take_all(stream);
    CHECK(requests.size() == 52U * ord);
    feed(stream,
         fpdu({.tagged = true,
               .last = true,
               .opcode = 2,
               .stag = iwarp::get_be32(requests.data() + 20),
               .offset = iwarp::get_be64(requests.data() + 24)},
              memory, false),
         100);
    CHECK(stream.completions().size() == 1);
    CHECK(take_all(stream).size() == 52);
  }
}

TEST_CASE("a full FPDU fills a TCP segment, and a WRITE is golden on the wire") {
  Stream stream(kLimits);
  stream.establish({.crc = true, .ird = 1, .ord = 1}, 1448, true);
  auto data = bytes_of(3000);
  const fabric::Sge pieces[] = {sge(data)};
  REQUIRE(stream.post_write(1, pieces, {.offset = 0x1000, .token = 0xabcd}));
  const auto wire = take_all(stream);
  const auto segment = [&](size_t at, size_t size, bool last) {
    return fpdu({.tagged = true, .last = last, .opcode = 0, .stag = 0xabcd, .offset = 0x1000 + at},
                std::span(data).subspan(at, size));
  };
  CHECK(wire == segment(0, 1428, false) + segment(1428, 1428, false) + segment(2856, 144, true));
  CHECK(segment(0, 1428, false).size() == 1448);
}

TEST_CASE("room that READs and WRITEs leave is room for SENDs, however long the READs take") {
  for (uint32_t reads = 0; reads <= kLimits.max_send_work; ++reads) {
    for (uint32_t writes = 0; reads + writes <= kLimits.max_send_work; ++writes) {
      CAPTURE(reads);
      CAPTURE(writes);
      Victim victim;
      Stream& stream = victim.stream;
      std::vector<std::byte> memory(5000);
      const fabric::Sge pieces[] = {sge(memory)};
      for (uint32_t i = 0; i < reads; ++i)
        REQUIRE(stream.post_read(i, sge(memory), {.offset = 1, .token = 2}));
      for (uint32_t i = 0; i < writes; ++i) REQUIRE(stream.post_write(i, pieces, {.offset = 1, .token = 2}));
      const uint32_t left = kLimits.max_send_work - reads - writes;
      // Twice: what SENDs give back is theirs again, while no READ is answered.
      for (int round = 0; round < 2; ++round) {
        CHECK(stream.send_room() == left + (round == 0 ? 0 : writes));
        for (uint32_t i = 0; i < left; ++i) REQUIRE(stream.post_send(100 + i, pieces, nullptr));
        (void)take_all(stream);
        size_t sent = 0;
        for (const auto& completion : stream.hand_out_completed()) {
          CHECK(completion.op != fabric::Op::rdma_read);
          sent += completion.op == fabric::Op::send ? 1 : 0;
        }
        CHECK(sent == left);
      }
      CHECK(stream.send_room() == kLimits.max_send_work - reads);
    }
  }
}

}  // namespace
}  // namespace smbdirect::test
