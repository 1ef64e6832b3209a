// SPDX-License-Identifier: MIT
// The exact answer to every rule of RFC 5040, 5041 and 5044 that a peer can break.
#include <algorithm>
#include <vector>

#include <doctest/doctest.h>

#include "stream_victim.h"

namespace smbdirect::test {
namespace {

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

}  // namespace
}  // namespace smbdirect::test
