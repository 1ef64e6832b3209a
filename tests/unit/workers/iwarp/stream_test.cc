// SPDX-License-Identifier: MIT
// Two streams against each other without sockets, over random sizes, segments, depths and cuts; and the
// exact answer to every rule a peer can break.
#include "workers/fabric/iwarp/stream.h"

#include <algorithm>
#include <deque>
#include <random>

#include <doctest/doctest.h>

#include "bytes.h"
#include "support.h"
#include "wire.h"
#include "workers/fabric/iwarp/byte_order.h"

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
  side.stream.release_completed();
  for (const Completion& completion : side.stream.completions()) {
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
  side.stream.forget_completed();
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

constexpr iwarp::StreamLimits kLimits{
    .max_send_work = 8, .max_receive_work = 8, .max_inbound_reads = 2, .max_outbound_reads = 4};

/// A stream that hand-made FPDUs are fed to.
struct Victim {
  explicit Victim(bool crc = true) : stream(kLimits), memory(4096) {
    stream.establish({.crc = crc, .ird = 2, .ord = 4}, 1448, true);
  }
  fabric::RemoteMemory expose(fabric::Access access, size_t size = 1000) {
    return *stream.expose(std::span(memory).first(size), access);
  }
  Stream stream;
  std::vector<std::byte> memory;
};

/// Feeds the bytes whole and byte by byte into equal victims; both must fault with this code.
template <class Prepare>
void must_terminate(iwarp::TerminateCode code, bool shows_header, Prepare prepare) {
  for (const size_t piece : {size_t{1} << 20, size_t{1}, size_t{7}}) {
    Victim victim;
    const std::vector<std::byte> bytes = prepare(victim);
    feed(victim.stream, bytes, piece);
    REQUIRE(victim.stream.fault().has_value());
    const auto& fault = *victim.stream.fault();
    CHECK_MESSAGE(fault.code == code, iwarp::terminate_text(fault.code));
    CHECK_FALSE(fault.from_peer);
    CHECK(std::string_view(fault.why) != "");
    CHECK(victim.stream.completions().empty());
    // And what goes out is that Terminate, once, with the segment it is about.
    const std::vector<std::byte> before = take_all(victim.stream);
    victim.stream.terminate(fault);
    const std::vector<std::byte> wire = take_all(victim.stream);
    CHECK(victim.stream.terminate_sent());
    CHECK(take_all(victim.stream).empty());
    REQUIRE(wire.size() >= 28);
    const auto header = iwarp::parse_ddp_header(std::span(wire).subspan(2));
    REQUIRE(header.has_value());
    CHECK(header->opcode == 7);
    CHECK(header->queue == 2);
    CHECK(header->msn == 1);
    CHECK(header->last);
    const size_t ulpdu = iwarp::get_be16(wire.data());
    const auto message = iwarp::parse_terminate(std::span(wire).subspan(20, ulpdu - 18));
    REQUIRE(message.has_value());
    CHECK(message->code == code);
    CHECK(message->header.has_value() == shows_header);
  }
}

iwarp::DdpHeader send_header(uint32_t msn, uint32_t mo = 0, bool last = true) {
  return {.last = last, .opcode = 3, .queue = 0, .msn = msn, .mo = mo};
}

std::vector<std::byte> bytes_of(size_t n) { return std::vector<std::byte>(n, std::byte{0x5a}); }

TEST_CASE("SENDs that break a rule") {
  using namespace iwarp::terminate;
  const auto post = [](Victim& v, uint32_t length = 100) {
    REQUIRE(v.stream.post_receive(1, {v.memory.data(), length, 0}));
  };
  must_terminate(kNoBuffer, true, [&](Victim&) { return fpdu(send_header(1), bytes_of(10)); });
  must_terminate(kNoBuffer, true, [&](Victim&) { return fpdu(send_header(1)); });
  must_terminate(kMessageTooLong, true, [&](Victim& v) {
    post(v);
    return fpdu(send_header(1), bytes_of(101));
  });
  must_terminate(kMessageTooLong, true, [&](Victim& v) {
    post(v);
    return fpdu(send_header(1, 0, false), bytes_of(60)) + fpdu(send_header(1, 60), bytes_of(41));
  });
  must_terminate(kMsnRange, true, [&](Victim& v) {
    post(v);
    return fpdu(send_header(2), bytes_of(1));
  });
  must_terminate(kMsnRange, true, [&](Victim& v) {
    post(v);
    return fpdu(send_header(0), bytes_of(1));
  });
  must_terminate(kInvalidMo, true, [&](Victim& v) {
    post(v);
    return fpdu(send_header(1, 1), bytes_of(1));
  });
  must_terminate(kInvalidMo, true, [&](Victim& v) {
    post(v);
    return fpdu(send_header(1, 0, false), bytes_of(60)) + fpdu(send_header(1, 59), bytes_of(1));
  });
  must_terminate(kUnexpectedOpcode, true, [&](Victim& v) {
    post(v);
    auto second = send_header(1, 60);
    second.opcode = 5;
    return fpdu(send_header(1, 0, false), bytes_of(60)) + fpdu(second, bytes_of(1));
  });
}

TEST_CASE("queues, opcodes and versions") {
  using namespace iwarp::terminate;
  for (const uint32_t queue : {3U, 0xffffffffU}) {
    must_terminate(kInvalidQueue, true, [&](Victim&) {
      return fpdu({.last = true, .opcode = 3, .queue = queue, .msn = 1}, bytes_of(4));
    });
  }
  struct Row {
    uint8_t opcode;
    uint32_t queue;
  };
  for (const Row& row : {Row{3, 1}, Row{3, 2}, Row{4, 1}, Row{1, 0}, Row{1, 2}, Row{7, 0}, Row{7, 1},
                         Row{0, 0}, Row{2, 0}, Row{8, 0}, Row{15, 0}, Row{8, 1}}) {
    CAPTURE(row.opcode);
    must_terminate(kUnexpectedOpcode, true, [&](Victim&) {
      return fpdu({.last = true, .opcode = row.opcode, .queue = row.queue, .msn = 1}, bytes_of(28));
    });
  }
  for (const int opcode : {1, 3, 4, 5, 6, 7, 8, 15}) {
    must_terminate(kUnexpectedOpcode, true, [&](Victim&) {
      return fpdu({.tagged = true, .last = true, .opcode = static_cast<uint8_t>(opcode)}, bytes_of(4));
    });
  }
  must_terminate(kUntaggedVersion, false,
                 [](Victim&) { return fpdu(hex("40 43 00000000 00000000 00000001 00000000")); });
  must_terminate(kTaggedVersion, false, [](Victim&) { return fpdu(hex("c2 40 00000001 0000000000000001")); });
  must_terminate(kRdmapVersion, false,
                 [](Victim&) { return fpdu(hex("41 03 00000000 00000000 00000001 00000000")); });
  must_terminate(kRdmapVersion, false, [](Victim&) { return fpdu(hex("c1 80 00000001 0000000000000001")); });
  must_terminate(kFpduLength, false, [](Victim&) { return fpdu(hex("41 43 00")); });
  must_terminate(kFpduLength, false, [](Victim&) { return fpdu(std::span<const std::byte>{}); });
  // Long enough for a tagged header, but it is an untagged one: nothing parsable to show.
  must_terminate(kFpduLength, false, [](Victim&) { return fpdu(hex("41 43 00000000 00000000 00000001")); });
}

TEST_CASE("a wrong CRC, in header, payload, pad or the field itself") {
  for (const size_t victim_byte : {9U, 21U, 30U, 31U, 32U, 35U}) {
    CAPTURE(victim_byte);
    must_terminate(iwarp::terminate::kCrc, false, [&](Victim& v) {
      REQUIRE(v.stream.post_receive(1, {v.memory.data(), 100, 0}));
      auto header = send_header(1);
      header.invalidate_stag = 7;  // not looked at in a plain SEND
      auto bytes = fpdu(header, bytes_of(10));
      REQUIRE(bytes.size() == 36);
      bytes[victim_byte == 9 ? 4 : victim_byte] ^= std::byte{1};
      return bytes;
    });
  }
  // Without CRC the field is not looked at.
  Victim plain(false);
  REQUIRE(plain.stream.post_receive(1, {plain.memory.data(), 100, 0}));
  auto bytes = fpdu(send_header(1), bytes_of(10), false);
  bytes.back() ^= std::byte{0xff};
  feed(plain.stream, bytes, 1000);
  CHECK_FALSE(plain.stream.fault().has_value());
  CHECK(plain.stream.completions().size() == 1);
}

TEST_CASE("RDMA WRITEs where they may not go") {
  using namespace iwarp::terminate;
  const auto write = [](fabric::RemoteMemory at, size_t size, uint64_t shift = 0) {
    return fpdu({.tagged = true, .last = true, .opcode = 0, .stag = at.token, .offset = at.offset + shift},
                bytes_of(size));
  };
  must_terminate(kTaggedInvalidStag, true, [&](Victim&) { return write({.offset = 0, .token = 0}, 4); });
  must_terminate(kTaggedInvalidStag, true, [&](Victim& v) {
    auto at = v.expose(fabric::Access::remote_write);
    at.token ^= 1;
    return write(at, 4);
  });
  must_terminate(kTaggedInvalidStag, true, [&](Victim& v) {
    const auto at = v.expose(fabric::Access::remote_write);
    v.stream.unexpose(at.token);
    return write(at, 4);
  });
  must_terminate(kAccessRights, true,
                 [&](Victim& v) { return write(v.expose(fabric::Access::remote_read), 4); });
  must_terminate(kTaggedBounds, true,
                 [&](Victim& v) { return write(v.expose(fabric::Access::remote_write), 4, 997); });
  must_terminate(kTaggedBounds, true, [&](Victim& v) {
    return write(v.expose(fabric::Access::remote_write), 4, static_cast<uint64_t>(-1));
  });
  must_terminate(kTaggedBounds, true,
                 [&](Victim& v) { return write(v.expose(fabric::Access::remote_write), 1001); });
  must_terminate(kTaggedOffsetWrap, true, [&](Victim& v) {
    return write({.offset = static_cast<uint64_t>(-4), .token = v.expose(fabric::Access::remote_write).token},
                 5);
  });
  // The sink of a READ is no target, even while that READ is outstanding.
  must_terminate(kAccessRights, true, [&](Victim& v) {
    REQUIRE(v.stream.post_read(1, {v.memory.data(), 100, 0}, {.offset = 1, .token = 2}));
    const auto request = take_all(v.stream);
    return write(
        {.offset = iwarp::get_be64(request.data() + 24), .token = iwarp::get_be32(request.data() + 20)}, 4);
  });
  // A WRITE of nothing names no byte: any tag will do (RFC 5040 5.1).
  Victim victim;
  feed(victim.stream, write({.offset = 3, .token = 99}, 0), 100);
  CHECK_FALSE(victim.stream.fault().has_value());
}

TEST_CASE("Read Requests that may not be served") {
  using namespace iwarp::terminate;
  const auto request = [](uint32_t msn, fabric::RemoteMemory from, uint32_t size, uint64_t shift = 0) {
    return read_request_fpdu(msn, {.sink_stag = 1,
                                   .sink_offset = 2,
                                   .size = size,
                                   .source_stag = from.token,
                                   .source_offset = from.offset + shift});
  };
  must_terminate(kReadInvalidStag, true, [&](Victim&) { return request(1, {.offset = 0, .token = 5}, 4); });
  must_terminate(kReadInvalidStag, true, [&](Victim& v) {
    const auto at = v.expose(fabric::Access::remote_read);
    v.stream.unexpose(at.token);
    return request(1, at, 4);
  });
  must_terminate(kAccessRights, true,
                 [&](Victim& v) { return request(1, v.expose(fabric::Access::remote_write), 4); });
  must_terminate(kReadBounds, true,
                 [&](Victim& v) { return request(1, v.expose(fabric::Access::remote_read), 1001); });
  must_terminate(kReadBounds, true,
                 [&](Victim& v) { return request(1, v.expose(fabric::Access::remote_read), 1, 1000); });
  must_terminate(kReadOffsetWrap, true, [&](Victim& v) {
    return request(
        1, {.offset = static_cast<uint64_t>(-1), .token = v.expose(fabric::Access::remote_read).token}, 2);
  });
  must_terminate(kMsnRange, true,
                 [&](Victim& v) { return request(2, v.expose(fabric::Access::remote_read), 4); });
  must_terminate(kNoBuffer, true, [&](Victim& v) {  // a third one, where two were agreed
    const auto at = v.expose(fabric::Access::remote_read);
    return request(1, at, 4) + request(2, at, 4) + request(3, at, 4);
  });
  must_terminate(kMessageTooLong, true, [&](Victim&) {
    return fpdu({.last = true, .opcode = 1, .queue = 1, .msn = 1}, bytes_of(29));
  });
  must_terminate(kUnspecified, true, [&](Victim&) {
    return fpdu({.last = true, .opcode = 1, .queue = 1, .msn = 1}, bytes_of(27));
  });
  must_terminate(kUnspecified, true, [&](Victim&) {
    return fpdu({.last = false, .opcode = 1, .queue = 1, .msn = 1}, bytes_of(28));
  });
  must_terminate(kInvalidMo, true, [&](Victim&) {
    return fpdu({.last = true, .opcode = 1, .queue = 1, .msn = 1, .mo = 28}, bytes_of(28));
  });
}

TEST_CASE("Read Responses: only the oldest READ's own, in order, exactly its bytes") {
  using namespace iwarp::terminate;
  struct Sink {
    uint32_t stag;
    uint64_t offset;
  };
  const auto post = [](Victim& v, uint32_t length) {
    REQUIRE(v.stream.post_read(1, {v.memory.data(), length, 0}, {.offset = 1, .token = 2}));
    const auto request = take_all(v.stream);
    return Sink{iwarp::get_be32(request.data() + 20), iwarp::get_be64(request.data() + 24)};
  };
  const auto response = [](Sink sink, uint64_t shift, size_t size, bool last) {
    return fpdu({.tagged = true, .last = last, .opcode = 2, .stag = sink.stag, .offset = sink.offset + shift},
                bytes_of(size));
  };
  must_terminate(kUnexpectedOpcode, true, [&](Victim&) { return response({1, 2}, 0, 4, true); });
  must_terminate(kTaggedInvalidStag, true, [&](Victim& v) {
    auto sink = post(v, 100);
    sink.stag ^= 1;
    return response(sink, 0, 100, true);
  });
  must_terminate(kTaggedInvalidStag, true, [&](Victim& v) {  // the second READ's before the first's
    (void)post(v, 100);
    return response(post(v, 100), 0, 100, true);
  });
  must_terminate(kTaggedBounds, true, [&](Victim& v) { return response(post(v, 100), 1, 99, true); });
  must_terminate(kTaggedBounds, true, [&](Victim& v) { return response(post(v, 100), 0, 101, true); });
  must_terminate(kTaggedBounds, true, [&](Victim& v) { return response(post(v, 100), 0, 99, true); });
  must_terminate(kTaggedBounds, true, [&](Victim& v) {
    const auto sink = post(v, 100);
    return response(sink, 0, 50, false) + response(sink, 49, 51, true);
  });
  must_terminate(kTaggedBounds, true, [&](Victim& v) { return response(post(v, 0), 0, 1, true); });
  // The tag is gone with its READ.
  Victim victim;
  const auto sink = post(victim, 100);
  feed(victim.stream, response(sink, 0, 60, false) + response(sink, 60, 40, true), 1000);
  CHECK(victim.stream.completions().size() == 1);
  feed(victim.stream, response(sink, 0, 100, true), 1000);
  CHECK(victim.stream.fault()->code == kUnexpectedOpcode);
}

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

TEST_CASE("invalidation by a SEND") {
  using namespace iwarp::terminate;
  const auto invalidate = [](uint32_t token, uint8_t opcode = 4) {
    return fpdu({.last = true, .opcode = opcode, .invalidate_stag = token, .queue = 0, .msn = 1},
                bytes_of(8));
  };
  for (const uint8_t opcode : {uint8_t{4}, uint8_t{6}}) {
    Victim victim;
    const auto at = victim.expose(fabric::Access::remote_write);
    REQUIRE(victim.stream.post_receive(1, {victim.memory.data() + 2000, 100, 0}));
    feed(victim.stream, invalidate(at.token, opcode), 1000);
    REQUIRE(victim.stream.completions().size() == 1);
    CHECK(victim.stream.completions()[0].invalidated);
    CHECK(victim.stream.completions()[0].invalidated_token == at.token);
    victim.stream.unexpose(at.token);  // harmless
    CHECK_FALSE(victim.stream.fault().has_value());
    feed(
        victim.stream,
        fpdu({.tagged = true, .last = true, .opcode = 0, .stag = at.token, .offset = at.offset}, bytes_of(1)),
        1000);
    CHECK(victim.stream.fault()->code == kTaggedInvalidStag);
  }
  Victim solicited;  // SEND with Solicited Event is a SEND
  REQUIRE(solicited.stream.post_receive(1, {solicited.memory.data(), 100, 0}));
  feed(solicited.stream, fpdu({.last = true, .opcode = 5, .queue = 0, .msn = 1}, bytes_of(8)), 1000);
  REQUIRE(solicited.stream.completions().size() == 1);
  CHECK_FALSE(solicited.stream.completions()[0].invalidated);

  const auto post = [](Victim& v) { REQUIRE(v.stream.post_receive(1, {v.memory.data() + 2000, 100, 0})); };
  must_terminate(kCannotInvalidate, true, [&](Victim& v) {
    post(v);
    return invalidate(77);
  });
  must_terminate(kCannotInvalidate, true, [&](Victim& v) {  // twice
    post(v);
    const auto at = v.expose(fabric::Access::remote_write);
    v.stream.unexpose(at.token);
    return invalidate(at.token);
  });
  must_terminate(kCannotInvalidate, true, [&](Victim& v) {  // the sink of a READ
    post(v);
    REQUIRE(v.stream.post_read(1, {v.memory.data(), 100, 0}, {.offset = 1, .token = 2}));
    return invalidate(iwarp::get_be32(take_all(v.stream).data() + 20));
  });
  must_terminate(kCannotInvalidate, true, [&](Victim& v) {  // still being read
    post(v);
    const auto at = v.expose(fabric::Access::remote_read);
    return read_request_fpdu(1, {.size = 4, .source_stag = at.token, .source_offset = at.offset}) +
           invalidate(at.token);
  });
}

TEST_CASE("revoking memory the peer is using ends the stream") {
  Victim reading;
  auto at = reading.expose(fabric::Access::remote_read);
  feed(reading.stream, read_request_fpdu(1, {.size = 4, .source_stag = at.token, .source_offset = at.offset}),
       1000);
  reading.stream.unexpose(at.token);
  REQUIRE(reading.stream.fault().has_value());
  CHECK(reading.stream.fault()->code == iwarp::terminate::kReadInvalidStag);
  CHECK_FALSE(reading.stream.fault()->silent);

  Victim sending;  // the answer is already with the socket, in part
  at = sending.expose(fabric::Access::remote_read);
  feed(sending.stream,
       read_request_fpdu(1, {.size = 400, .source_stag = at.token, .source_offset = at.offset}), 1000);
  REQUIRE_FALSE(sending.stream.send_vectors().empty());
  sending.stream.sent(10);
  sending.stream.unexpose(at.token);
  REQUIRE(sending.stream.fault().has_value());
  CHECK(sending.stream.fault()->silent);

  Victim writing;
  at = writing.expose(fabric::Access::remote_write);
  const auto bytes =
      fpdu({.tagged = true, .last = true, .opcode = 0, .stag = at.token, .offset = at.offset}, bytes_of(500));
  feed(writing.stream, std::span(bytes).first(100), 1000);
  writing.stream.unexpose(at.token);
  REQUIRE(writing.stream.fault().has_value());
  CHECK(writing.stream.fault()->code == iwarp::terminate::kTaggedInvalidStag);

  Victim other;  // another buffer's use is no obstacle
  at = other.expose(fabric::Access::remote_read);
  const auto unused = other.expose(fabric::Access::remote_write);
  feed(other.stream, read_request_fpdu(1, {.size = 4, .source_stag = at.token, .source_offset = at.offset}),
       1000);
  other.stream.unexpose(unused.token);
  CHECK_FALSE(other.stream.fault().has_value());
}

TEST_CASE("a Terminate from the peer is decoded") {
  Victim victim;
  const auto payload = iwarp::encode_terminate(iwarp::terminate::kNoBuffer, {}, 0);
  feed(victim.stream, fpdu({.last = true, .opcode = 7, .queue = 2, .msn = 1}, payload.span()), 5);
  REQUIRE(victim.stream.fault().has_value());
  CHECK(victim.stream.fault()->from_peer);
  CHECK(victim.stream.fault()->code == iwarp::terminate::kNoBuffer);
  must_terminate(iwarp::terminate::kMessageTooLong, true, [](Victim&) {
    return fpdu({.last = true, .opcode = 7, .queue = 2, .msn = 1}, bytes_of(200));
  });
  must_terminate(iwarp::terminate::kMessageTooLong, true, [](Victim&) {
    return fpdu({.last = true, .opcode = 7, .queue = 2, .msn = 1}, bytes_of(3));
  });
  must_terminate(iwarp::terminate::kMsnRange, true, [](Victim&) {
    return fpdu({.last = true, .opcode = 7, .queue = 2, .msn = 2}, bytes_of(4));
  });
  must_terminate(iwarp::terminate::kInvalidMo, true, [](Victim&) {
    return fpdu({.last = false, .opcode = 7, .queue = 2, .msn = 1}, bytes_of(4));
  });
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

}  // namespace
}  // namespace smbdirect::test
