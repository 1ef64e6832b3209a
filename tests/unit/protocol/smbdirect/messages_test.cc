// SPDX-License-Identifier: MIT
#include "protocol/smbdirect/messages.h"

#include <initializer_list>

#include <doctest/doctest.h>

#include "tests/unit/protocol/smbdirect/peer.h"

namespace smbdirect::protocol::smb_direct {
namespace {

using test::Bytes;
using test::bytes_of;

Bytes raw(std::initializer_list<int> values) {
  Bytes bytes;
  for (const int value : values) bytes.push_back(static_cast<std::byte>(value));
  return bytes;
}

Bytes raw_data(DataTransfer header, size_t size) {
  Bytes message = bytes_of(encode(header));
  message.resize(size);
  return message;
}

}  // namespace

// The worked example of MS-SMBD section 4, byte for byte.

TEST_CASE("golden 4.1: negotiate request") {
  const Bytes wire = raw({0x00, 0x01, 0x00, 0x01, 0x00, 0x00, 0x0A, 0x00, 0x00, 0x04,
                          0x00, 0x00, 0x00, 0x04, 0x00, 0x00, 0x00, 0x00, 0x02, 0x00});
  CHECK(bytes_of(encode(test::basic_request())) == wire);
  const auto parsed = parse_negotiate_request(wire);
  REQUIRE(parsed.has_value());
  CHECK(parsed->min_version == 0x0100);
  CHECK(parsed->max_version == 0x0100);
  CHECK(parsed->credits_requested == 10);
  CHECK(parsed->preferred_send_size == 1024);
  CHECK(parsed->max_receive_size == 1024);
  CHECK(parsed->max_fragmented_size == 131072);
}

TEST_CASE("golden 4.1: negotiate response") {
  const Bytes wire =
      raw({0x00, 0x01, 0x00, 0x01, 0x00, 0x01, 0x00, 0x00, 0x0A, 0x00, 0x0A, 0x00, 0x00, 0x00, 0x00, 0x00,
           0x00, 0x00, 0x10, 0x00, 0x00, 0x04, 0x00, 0x00, 0x00, 0x04, 0x00, 0x00, 0x00, 0x00, 0x02, 0x00});
  CHECK(bytes_of(encode(test::basic_response())) == wire);
  const auto parsed = parse_negotiate_response(wire);
  REQUIRE(parsed.has_value());
  CHECK(parsed->negotiated_version == 0x0100);
  CHECK(parsed->credits_requested == 10);
  CHECK(parsed->credits_granted == 10);
  CHECK(parsed->status == 0);
  CHECK(parsed->max_read_write_size == 0x100000);
  CHECK(parsed->preferred_send_size == 1024);
  CHECK(parsed->max_receive_size == 1024);
  CHECK(parsed->max_fragmented_size == 131072);
}

TEST_CASE("golden 4.2: data messages of one fragment") {
  const Bytes first = raw({0x0A, 0x00, 0x0A, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
                           0x18, 0x00, 0x00, 0x00, 0xF4, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00});
  CHECK(bytes_of(encode(DataTransfer{
            .credits_requested = 10, .credits_granted = 10, .data_offset = 24, .data_length = 500})) ==
        first);
  Bytes later = first;
  later[2] = std::byte{1};
  later.resize(24 + 500);
  const auto parsed = parse_data_transfer(later);
  REQUIRE(parsed.has_value());
  CHECK(parsed->credits_requested == 10);
  CHECK(parsed->credits_granted == 1);
  CHECK(parsed->flags == 0);
  CHECK(parsed->remaining_data_length == 0);
  CHECK(parsed->data_offset == 24);
  CHECK(parsed->data_length == 500);
}

TEST_CASE("golden 4.3: 64 KiB as 65 fragments of 1000 bytes") {
  using namespace test;
  Limits limits;
  limits.send_credit_target = 10;
  limits.receive_credit_initial = 10;
  Engine engine = established_client(limits);
  REQUIRE(engine.begin(65536));
  uint64_t left = 65536;
  for (int i = 0; i < 66; ++i) {
    const auto message = next(engine, 0, left, 1000);
    REQUIRE_MESSAGE(message.has_value(), "fragment " << i);
    const uint32_t length = i < 65 ? 1000 : 536;
    left -= length;
    const DataTransfer expected{.credits_requested = 10,
                                .credits_granted = static_cast<uint16_t>(i == 0 ? 10 : 1),
                                .remaining_data_length = static_cast<uint32_t>(left),
                                .data_offset = 24,
                                .data_length = length};
    CHECK(Bytes(header_of(*message).begin(), header_of(*message).end()) == bytes_of(encode(expected)));
    CHECK(message->completes == (left == 0));
    feed(engine, {.granted = 1});  // the peer uses one credit to give one back
  }
  CHECK_FALSE(engine.sending());
}

TEST_CASE("every field of every message survives a round trip at its extremes") {
  const NegotiateRequest request{0xFFFF, 0xFFFE, 0xFFFD, 0xFFFFFFFC, 0xFFFFFFFB, 0xFFFFFFFA};
  const auto r = parse_negotiate_request(encode(request));
  REQUIRE(r.has_value());
  CHECK(encode(*r) == encode(request));
  CHECK(r->max_version == 0xFFFE);
  CHECK(r->max_receive_size == 0xFFFFFFFB);
  const NegotiateResponse response{1, 2, 3, 4, 5, 0xC00000BB, 7, 8, 9, 0xFFFFFFFF};
  const auto p = parse_negotiate_response(encode(response));
  REQUIRE(p.has_value());
  CHECK(encode(*p) == encode(response));
  CHECK(p->status == 0xC00000BB);
}

TEST_CASE("short messages are refused, longer ones are not") {
  const Bytes request = bytes_of(encode(test::basic_request()));
  for (size_t size = 0; size < 20; ++size) {
    CHECK(parse_negotiate_request(std::span(request).first(size)).error() == Fault::message_too_short);
    CHECK(parse_data_transfer(std::span(request).first(size)).error() == Fault::message_too_short);
  }
  const Bytes response = bytes_of(encode(test::basic_response()));
  CHECK(parse_negotiate_response(std::span(response).first(31)).error() == Fault::message_too_short);
  Bytes padded = request;
  padded.resize(512, std::byte{0xAA});
  CHECK(parse_negotiate_request(padded).has_value());
}

TEST_CASE("data offset: a multiple of 8, any value inside the message") {
  for (const uint32_t offset : {1u, 4u, 7u, 23u, 25u, 0xFFFFFFFFu, 0xFFFFFFFCu}) {
    const auto message = raw_data({.credits_requested = 1, .data_offset = offset, .data_length = 1}, 64);
    CHECK(parse_data_transfer(message).error() == Fault::data_offset_misaligned);
  }
  for (const uint32_t offset : {0u, 8u, 24u, 32u, 56u}) {
    const auto message = raw_data({.credits_requested = 1, .data_offset = offset, .data_length = 8}, 64);
    CHECK(parse_data_transfer(message).has_value());
  }
  for (const uint32_t offset : {64u, 0x7FFFFFF8u, 0xFFFFFFF8u}) {
    const auto message = raw_data({.credits_requested = 1, .data_offset = offset, .data_length = 8}, 64);
    CHECK(parse_data_transfer(message).error() == Fault::data_beyond_message);
  }
}

TEST_CASE("data length: not past the message's end, trailing bytes are legal") {
  for (const uint32_t length : {41u, 0x80000000u, 0xFFFFFFE8u, 0xFFFFFFFFu}) {
    const auto message = raw_data({.credits_requested = 1, .data_offset = 24, .data_length = length}, 64);
    CHECK(parse_data_transfer(message).error() == Fault::data_beyond_message);
  }
  for (const uint32_t length : {0u, 1u, 39u, 40u}) {
    const auto message = raw_data({.credits_requested = 1, .data_offset = 24, .data_length = length}, 64);
    CHECK(parse_data_transfer(message).has_value());
  }
}

TEST_CASE("CreditsRequested 0 in a data message is refused") {
  CHECK(parse_data_transfer(raw_data({}, 24)).error() == Fault::credits_requested_zero);
}

TEST_CASE("every fault has a name and words of its own") {
  for (size_t i = 0; i < kFaultCount; ++i) {
    CHECK_FALSE(fault_name(static_cast<Fault>(i)).empty());
    for (size_t j = 0; j < i; ++j) {
      CHECK(fault_name(static_cast<Fault>(i)) != fault_name(static_cast<Fault>(j)));
      CHECK(fault_text(static_cast<Fault>(i)) != fault_text(static_cast<Fault>(j)));
    }
  }
}

}  // namespace smbdirect::protocol::smb_direct
