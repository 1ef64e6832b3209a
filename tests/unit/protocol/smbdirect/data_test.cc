// SPDX-License-Identifier: MIT
// Data transfer messages in both directions: MS-SMBD 3.1.5.8 rule by rule, and how fragments are cut.
#include <algorithm>

#include <doctest/doctest.h>

#include "tests/unit/protocol/smbdirect/peer.h"

namespace smbdirect::protocol::smb_direct::test {
namespace {

constexpr uint32_t kOurMaxFragmented = 8 * 1024 * 1024 + 128 * 1024;

void check_fragment(const Delivery& delivery, size_t size, uint64_t total, bool first, bool last) {
  CHECK(delivery.kind == Delivery::Kind::fragment);
  CHECK(delivery.data.size() == size);
  CHECK(delivery.total == total);
  CHECK(delivery.first == first);
  CHECK(delivery.last == last);
}

/// A server the peer has granted plenty.
Engine granted_server(const NegotiateRequest& request = basic_request(), uint16_t grant = 100) {
  Engine engine = established_server({}, request);
  feed(engine, {.granted = grant});
  return engine;
}

}  // namespace

TEST_CASE("a message in one fragment is delivered where it lies") {
  Engine engine = established_server();
  Bytes message = data_message({.granted = 1, .length = 500});
  message[24] = std::byte{0x11};
  const auto delivery = engine.receive(message, 0);
  REQUIRE(delivery.has_value());
  check_fragment(*delivery, 500, 500, true, true);
  CHECK(delivery->data.data() == message.data() + 24);
}

TEST_CASE("cut-through: each fragment is delivered as it comes") {
  Engine engine = established_server();
  check_fragment(feed(engine, {.length = 1000, .remaining = 1500}), 1000, 2500, true, false);
  CHECK(engine.receiving());
  check_fragment(feed(engine, {.length = 1000, .remaining = 500}), 1000, 2500, false, false);
  check_fragment(feed(engine, {.length = 500}), 500, 2500, false, true);
  CHECK_FALSE(engine.receiving());
  check_fragment(feed(engine, {.length = 1}), 1, 1, true, true);
}

TEST_CASE("SmallLengthSegment: 128 KiB in fragments of 1 byte") {
  Engine engine = established_server();
  for (uint32_t left = 131072; left-- > 0;) {
    const uint16_t grant = engine.credits().send < 10 ? 1 : 0;
    const Delivery delivery = feed(engine, {.granted = grant, .length = 1, .remaining = left});
    if (delivery.last != (left == 0) || delivery.first != (left == 131071)) FAIL("at " << left);
    while (next(engine, 0)) {
    }
  }
  CHECK_FALSE(engine.receiving());
}

TEST_CASE("VariableLengthSegment: decreasing sizes down to 0, also 0 at the start") {
  Engine engine = established_server();
  check_fragment(feed(engine, {.length = 0, .remaining = 600}), 0, 600, true, false);
  check_fragment(feed(engine, {.length = 500, .remaining = 100}), 500, 600, false, false);
  check_fragment(feed(engine, {.length = 99, .remaining = 1}), 99, 600, false, false);
  check_fragment(feed(engine, {.length = 0, .remaining = 1}), 0, 600, false, false);
  check_fragment(feed(engine, {.length = 1}), 1, 600, false, true);
}

TEST_CASE("empty credit messages between fragments belong to no message") {
  Engine engine = established_server();
  feed(engine, {.length = 10, .remaining = 10});
  CHECK(feed(engine, {.granted = 1}).kind == Delivery::Kind::nothing);
  check_fragment(feed(engine, {.length = 10}), 10, 20, false, true);
}

TEST_CASE("Redundancy: bytes after the data, and data at another offset, are accepted") {
  Engine engine = established_server();
  Bytes message = data_message({.length = 100});
  message.resize(1024, std::byte{0xEE});
  auto delivery = engine.receive(message, 0);
  REQUIRE(delivery.has_value());
  check_fragment(*delivery, 100, 100, true, true);
  message = bytes_of(encode(DataTransfer{.credits_requested = 1, .data_offset = 64, .data_length = 36}));
  message.resize(100);
  delivery = engine.receive(message, 0);
  REQUIRE(delivery.has_value());
  CHECK(delivery->data.data() == message.data() + 64);
  message = bytes_of(
      encode(DataTransfer{.credits_requested = 1, .flags = 0xFFFE, .data_offset = 0, .data_length = 24}));
  delivery = engine.receive(message, 0);  // unknown flags and an offset of 0
  REQUIRE(delivery.has_value());
  CHECK(delivery->data.data() == message.data());
}

TEST_CASE("UncompletedMessage: 19 bytes, or none") {
  Engine engine = established_server();
  check_fault(engine, Bytes(19, std::byte{1}), Fault::message_too_short);
  Engine other = established_server();
  check_fault(other, Bytes(), Fault::message_too_short);
}

TEST_CASE("NegativeParameter_DataOffset, DataLength: misaligned, past the end") {
  struct Case {
    uint32_t offset, length;
    Fault fault;
  };
  for (const Case& c :
       {Case{23, 8, Fault::data_offset_misaligned}, Case{25, 8, Fault::data_offset_misaligned},
        Case{32, 8, Fault::data_beyond_message}, Case{UINT32_MAX - 7, 8, Fault::data_beyond_message},
        Case{24, 9, Fault::data_beyond_message}, Case{24, UINT32_MAX, Fault::data_beyond_message}}) {
    Engine engine = established_server();
    Bytes message = bytes_of(
        encode(DataTransfer{.credits_requested = 1, .data_offset = c.offset, .data_length = c.length}));
    message.resize(32);
    check_fault(engine, message, c.fault);
  }
}

TEST_CASE("DataLength_AgainstMaxReceiveSize: longer than agreed is refused, though the buffer was larger") {
  Engine engine = established_server();  // agreed: 1024; ours: 8192
  CHECK(feed(engine, {.length = 1000}).data.size() == 1000);
  check_fault(engine, data_message({.length = 1001}), Fault::message_too_long);
}

TEST_CASE("AgainstMaxFragmentedSize: exactly our limit is accepted, one more is not") {
  {
    Engine engine = established_server();
    CHECK(feed(engine, {.length = 1000, .remaining = kOurMaxFragmented - 1000}).total == kOurMaxFragmented);
  }
  const Data over[] = {{.length = 1000, .remaining = kOurMaxFragmented - 999},
                       {.length = 0, .remaining = kOurMaxFragmented + 1},
                       {.length = 1, .remaining = UINT32_MAX},
                       {.length = 1000, .remaining = UINT32_MAX - 999}};
  for (const Data& data : over) {
    Engine engine = established_server();
    check_fault(engine, data_message(data), Fault::exceeds_max_fragmented);
  }
  Engine engine = established_server();  // also in the middle of a message
  feed(engine, {.length = 10, .remaining = 10});
  check_fault(engine, data_message({.length = 10, .remaining = UINT32_MAX}), Fault::exceeds_max_fragmented);
}

TEST_CASE("RemainingDataLength: zero too early, more than announced, less than is left") {
  const Data wrong[] = {
      {.length = 10, .remaining = 0},     // early end
      {.length = 10, .remaining = 91},    // more than was announced
      {.length = 10, .remaining = 89},    // skips a byte
      {.length = 101, .remaining = 0},    // longer than what is left
      {.length = 0, .remaining = 99},     // also without data
      {.length = 10, .remaining = 1000},  // a new message inside the old one
  };
  for (const Data& data : wrong) {
    Engine engine = established_server();
    feed(engine, {.length = 100, .remaining = 100});
    check_fault(engine, data_message(data), Fault::reassembly_mismatch);
  }
}

TEST_CASE("CreditsRequested 0 in a data message ends the connection") {
  Engine engine = established_server();
  check_fault(engine, data_message({.requested = 0, .granted = 1}), Fault::credits_requested_zero);
}

TEST_CASE("a closed engine repeats its fault and does nothing") {
  Engine engine = established_server();
  check_fault(engine, Bytes(3), Fault::message_too_short);
  CHECK(engine.receive(data_message({.length = 1}), 0).error() == Fault::message_too_short);
  CHECK(engine.tick(1'000'000).error() == Fault::message_too_short);
  CHECK_FALSE(engine.begin(1));
}

TEST_CASE("ReceiveMaxReceiveSize: our fragments fill the peer's MaxReceiveSize, the last takes the rest") {
  for (const uint32_t size : {128u, 1024u, 1364u}) {
    NegotiateRequest request = basic_request();
    request.max_receive_size = size;
    Engine engine = granted_server(request);
    const uint32_t payload = size - 24;
    const uint64_t total = 10 * payload + 7;
    REQUIRE(engine.begin(total));
    CHECK(engine.sending());
    CHECK_FALSE(engine.begin(1));
    uint64_t left = total;
    while (engine.sending()) {
      const auto message = next(engine, 0, left);
      REQUIRE(message.has_value());
      CHECK(message->header_size == 24);
      CHECK(message->payload == std::min<uint64_t>(left, payload));
      left -= message->payload;
      const DataTransfer header = data_of(*message);
      CHECK(header.data_offset == 24);
      CHECK(header.data_length == message->payload);
      CHECK(header.remaining_data_length == left);
      CHECK(header.flags == 0);
      CHECK(header.credits_requested == 255);
      CHECK(message->completes == (left == 0));
      CHECK_FALSE(message->disconnect);
    }
    CHECK(left == 0);
    CHECK_FALSE(next(engine, 0).has_value());
  }
}

TEST_CASE("a fragment waits until it is full-sized or the last") {
  Engine engine = granted_server();
  while (next(engine, 0)) {
  }
  REQUIRE(engine.begin(1500));
  CHECK_FALSE(next(engine, 0, 0).has_value());
  CHECK_FALSE(next(engine, 0, 999).has_value());
  const auto first = next(engine, 0, 1200);
  REQUIRE(first.has_value());
  CHECK(first->payload == 1000);
  CHECK_FALSE(next(engine, 0, 499).has_value());
  const auto last = next(engine, 0, 500);
  REQUIRE(last.has_value());
  CHECK(last->payload == 500);
  CHECK(last->completes);
}

TEST_CASE("max_payload forces smaller fragments, at least 1 byte each") {
  Engine engine = granted_server();
  REQUIRE(engine.begin(10));
  const auto first = next(engine, 0, 10, 4);
  REQUIRE(first.has_value());
  CHECK(first->payload == 4);
  CHECK(data_of(*first).remaining_data_length == 6);
  const auto second = next(engine, 0, 6, 0);
  REQUIRE(second.has_value());
  CHECK(second->payload == 1);
}

TEST_CASE("the peer's MaxFragmentedSize bounds what can be begun") {
  Engine engine = granted_server();
  CHECK_FALSE(engine.begin(0));
  CHECK_FALSE(engine.begin(131073));
  CHECK_FALSE(engine.begin(uint64_t{1} << 32));
  CHECK(engine.begin(131072));
}

TEST_CASE("an empty message is the 20 bytes of the header with everything about data 0") {
  Engine engine = established_server();
  const Delivery asked = feed(engine, {.granted = 10, .flags = DataTransfer::kResponseRequested});
  CHECK(asked.kind == Delivery::Kind::nothing);
  const auto message = next(engine, 0);
  REQUIRE(message.has_value());
  CHECK(message->header_size == 20);
  CHECK(message->payload == 0);
  CHECK_FALSE(message->completes);
  const DataTransfer header = data_of(*message);
  CHECK(header.data_offset == 0);
  CHECK(header.data_length == 0);
  CHECK(header.remaining_data_length == 0);
}

}  // namespace smbdirect::protocol::smb_direct::test
