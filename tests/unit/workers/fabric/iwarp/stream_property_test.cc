// SPDX-License-Identifier: MIT
// Two streams against each other without sockets, over random sizes, segments, depths and cuts.
#include <algorithm>
#include <deque>
#include <random>

#include <doctest/doctest.h>

#include "bytes.h"
#include "support.h"
#include "wire.h"
#include "workers/fabric/iwarp/stream.h"

namespace smbdirect::test {
namespace {

using fabric::Completion;
using fabric::Op;
using iwarp::Stream;

/// One side of the property test, with its idea of what must happen.
struct Side {
  explicit Side(const iwarp::StreamLimits& limits) : stream(limits) {}

  Stream stream;
  std::deque<std::vector<std::byte>> receives;       // posted, in order
  std::deque<std::vector<std::byte>> sent;           // contents, until the peer has them
  std::deque<std::vector<std::byte>> sends, writes;  // memory kept until completion
  struct Read {
    std::vector<std::byte> into;
    std::vector<std::byte> expected;
  };
  std::deque<Read> reads;
  struct Exposed {
    std::vector<std::byte> memory;
    std::vector<std::byte> expected;
    fabric::RemoteMemory at;
  };
  std::deque<Exposed> readable, writable;
  uint64_t next_send = 0, next_write = 0, next_read = 0, next_receive = 0;
  uint64_t done_send = 0, done_write = 0, done_read = 0, done_receive = 0;
};

void drain_completions(Side& side, Side& peer) {
  for (const Completion& completion : side.stream.hand_out_completed()) {
    switch (completion.op) {
      case Op::send:
        CHECK(completion.id == side.done_send++);
        side.sends.pop_front();
        break;
      case Op::rdma_write:
        CHECK(completion.id == side.done_write++);
        side.writes.pop_front();
        break;
      case Op::rdma_read:
        CHECK(completion.id == side.done_read++);
        CHECK(side.reads.front().into == side.reads.front().expected);
        CHECK(completion.bytes == side.reads.front().expected.size());
        side.reads.pop_front();
        break;
      case Op::receive:
        CHECK(completion.id == side.done_receive++);
        REQUIRE(completion.bytes == peer.sent.front().size());
        CHECK(std::equal(peer.sent.front().begin(), peer.sent.front().end(), side.receives.front().begin()));
        side.receives.pop_front();
        peer.sent.pop_front();
        break;
    }
  }
}

TEST_CASE("whatever two streams do, it arrives intact and in order, and everything completes") {
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    CAPTURE(seed);
    std::mt19937_64 random(seed);
    const iwarp::StreamLimits limits{.max_send_work = static_cast<uint32_t>(random() % 20 + 2),
                                     .max_receive_work = 64,
                                     .max_inbound_reads = 16,
                                     .max_outbound_reads = 16};
    Side a(limits), b(limits);
    const bool crc = random() % 2 == 0;
    const auto depth = static_cast<uint16_t>(random() % 4 + 1);
    const uint32_t segments[] = {140, 537, 1448, 8948, 65483};
    const uint32_t segment = segments[random() % std::size(segments)];
    a.stream.establish({.crc = crc, .ird = depth, .ord = depth}, segment, true);
    b.stream.establish({.crc = crc, .ird = depth, .ord = depth}, segments[random() % 5], false);
    Wire ab(a.stream, b.stream), ba(b.stream, a.stream);
    const size_t largest = segment < 1000 ? 5000 : 200'000;
    const auto length = [&] {
      const size_t classes[] = {0, 4, 1364, 8192, largest};
      return static_cast<size_t>(random() % (std::min(classes[random() % 5], largest) + 1));
    };
    const auto act = [&](Side& from, Side& to) {
      if (from.stream.send_room() == 0) return;
      std::vector<std::byte> bytes = random_bytes(length(), random());
      std::vector<fabric::Sge> pieces;
      switch (random() % 3) {
        case 0: {
          if (to.receives.size() == 64) return;
          to.receives.emplace_back(bytes.size() + random() % 3);
          REQUIRE(to.stream.post_receive(to.next_receive++, sge(to.receives.back())));
          from.sent.push_back(bytes);
          from.sends.push_back(std::move(bytes));
          auto rest = std::span(from.sends.back());
          while (!rest.empty() && pieces.size() < 15) {
            const size_t part = random() % (rest.size() + 1);
            pieces.push_back(sge(rest.first(part)));  // empty pieces among them
            rest = rest.subspan(part);
          }
          pieces.push_back(sge(rest));
          REQUIRE(from.stream.post_send(from.next_send++, pieces, nullptr));
          break;
        }
        case 1: {
          auto& target = to.writable.emplace_back();
          target.memory.resize(bytes.size() + 16);
          target.expected = target.memory;
          const size_t at = random() % 17;
          std::copy(bytes.begin(), bytes.end(), target.expected.begin() + static_cast<ptrdiff_t>(at));
          target.at = *to.stream.expose(target.memory, fabric::Access::remote_write);
          from.writes.push_back(std::move(bytes));
          pieces.push_back(sge(from.writes.back()));
          REQUIRE(
              from.stream.post_write(from.next_write++, pieces, {target.at.offset + at, target.at.token}));
          break;
        }
        default: {
          auto& source = to.readable.emplace_back();
          source.memory = bytes;
          source.at = *to.stream.expose(source.memory, fabric::Access::remote_read);
          const size_t from_byte = random() % (bytes.size() + 1);
          auto& read = from.reads.emplace_back();
          read.expected = vec(std::span(bytes).subspan(from_byte));
          read.into.resize(read.expected.size());
          REQUIRE(from.stream.post_read(from.next_read++, sge(read.into),
                                        {source.at.offset + from_byte, source.at.token}));
          break;
        }
      }
    };
    // The first message must be a's.
    for (int turn = 0; turn < 400; ++turn) {
      if (turn < 300 && random() % 3 == 0) act(a, b);
      if (turn < 300 && random() % 3 == 0) act(b, a);
      const size_t most = random() % 3 == 0 ? 40 : 300'000;
      (void)ab.step(random, most);
      (void)ba.step(random, most);
      drain_completions(a, b);
      drain_completions(b, a);
    }
    while (ab.step(random, 300'000) | ba.step(random, 300'000)) {
      drain_completions(a, b);
      drain_completions(b, a);
    }
    CHECK_FALSE(a.stream.fault().has_value());
    CHECK_FALSE(b.stream.fault().has_value());
    for (Side* side : {&a, &b}) {
      CHECK(side->stream.drained());
      CHECK(side->stream.at_boundary());
      CHECK(side->done_send == side->next_send);
      CHECK(side->done_write == side->next_write);
      CHECK(side->done_read == side->next_read);
      CHECK(side->done_receive == side->next_receive);
      CHECK(side->stream.send_room() == limits.max_send_work);
      for (const auto& target : side->writable) CHECK(target.memory == target.expected);
    }
    CHECK(a.stream.traffic().fpdus_sent == b.stream.traffic().fpdus_received);
    CHECK(b.stream.traffic().fpdus_sent == a.stream.traffic().fpdus_received);
    CHECK(a.stream.traffic().reads == a.next_read);
    CHECK(b.stream.traffic().sends == b.next_send);
  }
}

}  // namespace
}  // namespace smbdirect::test
