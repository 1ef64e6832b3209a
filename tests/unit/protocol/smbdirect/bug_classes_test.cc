// SPDX-License-Identifier: MIT
// One test per class of defect that other SMB Direct (and RDMA) implementations were hit by and that
// concerns the codec or the engine. Rows that concern the fabric, SMB2 or process limits are tested there.
#include <algorithm>
#include <random>

#include <doctest/doctest.h>

#include "protocol/smbdirect/negotiation.h"
#include "tests/unit/protocol/smbdirect/pair.h"

namespace smbdirect::protocol::smb_direct::test {

TEST_CASE("CVE-2025-39943: offset and length are held against the bytes received, not the buffer's size") {
  // A receive buffer of 8192 bytes in which only `received` bytes came; what follows is stale.
  const Bytes buffer(8192, std::byte{0x41});
  for (const uint32_t received : {24u, 25u, 100u, 1023u}) {
    for (const uint32_t offset : {0u, 24u, 1024u, 0xFFFFFFF8u}) {
      Engine engine = established_server();
      Bytes message = buffer;
      const uint32_t past = offset < received ? received - offset + 1 : 1;
      const auto header =
          encode(DataTransfer{.credits_requested = 1, .data_offset = offset, .data_length = past});
      std::copy(header.begin(), header.end(), message.begin());
      const auto delivery = engine.receive(std::span(message).first(received), 0);
      REQUIRE_FALSE(delivery.has_value());
      CHECK(delivery.error() == Fault::data_beyond_message);
    }
  }
}

TEST_CASE("CVE-2025-39942, CVE-2025-39933: RemainingDataLength is bounded on every fragment") {
  const uint32_t most = Limits{}.max_fragmented_size;
  for (const Role role : {Role::passive, Role::active}) {
    for (const bool in_the_middle : {false, true}) {
      Engine engine = role == Role::passive ? established_server() : established_client();
      REQUIRE((role == Role::passive || next(engine, 0).has_value()));
      if (in_the_middle) feed(engine, {.length = 100, .remaining = most - 100});
      check_fault(engine, data_message({.length = 100, .remaining = most - 99}),
                  Fault::exceeds_max_fragmented);
    }
  }
}

TEST_CASE("CVE-2026-43185: sizes with the top bit set are large, not negative") {
  for (const uint32_t size : {0x80000000u, 0x80000001u, 0xFFFFFFFFu, 0x7FFFFFFFu}) {
    NegotiateRequest request = basic_request();
    request.preferred_send_size = size;
    request.max_receive_size = size;
    request.max_fragmented_size = size;
    const Engine engine = established_server({}, request);
    CHECK(engine.agreed().max_receive_size == 8192);
    CHECK(engine.agreed().max_send_size == 8192);
    CHECK(engine.agreed().max_fragmented_send_size == size);
  }
  NegotiateResponse response = basic_response();
  response.max_receive_size = 0x80000000u;
  response.max_read_write_size = 0x80000000u;
  const Engine client = established_client({}, response);
  CHECK(client.agreed().max_send_size == 8192);
  CHECK(client.agreed().max_read_write_size == 8 * 1024 * 1024);
  response.preferred_send_size = 0x80000000u;
  CHECK(check_response(response, {}).error() == Fault::response_invalid);
}

TEST_CASE("CVE-2026-31538, CVE-2026-31539: grants come from receives posted and not yet promised") {
  std::mt19937 random(31538);
  Engine engine = established_server();
  feed(engine, {.granted = 5000});
  uint32_t promised = 9;  // by us, and not yet used by the peer
  uint32_t posted = engine.credits().posted;
  uint64_t used = 0;
  // Messages, late and partial posts, and sends, in any order.
  for (Millis now = 0; used < 5000; ++now) {
    if (random() % 2 == 0 && promised > 0) {
      feed(engine, {.granted = 1, .length = 1}, now);
      --promised;
      --posted;
      ++used;
    }
    if (random() % 3 == 0 && engine.receives_wanted() > 0) {
      engine.receives_posted(1);
      ++posted;
    }
    if (random() % 3 == 0 && !engine.sending()) REQUIRE(engine.begin(1));
    while (const auto message = engine.next(1, now)) promised += data_of(*message).credits_granted;
    REQUIRE(engine.credits().posted == posted);
    REQUIRE(engine.credits().granted == promised);
    REQUIRE(promised <= posted);
  }
}

TEST_CASE("CVE-2025-38501 (KSMBDrain): a connection that never negotiates has an end") {
  Engine engine(Role::passive, {}, 0);
  post(engine);
  REQUIRE(engine.next_deadline() == 5000);
  CHECK(engine.tick(5000).error() == Fault::negotiate_timeout);
}

TEST_CASE("CVE-2026-64269 (rtrs), CVE-2026-89526 (svcrdma): no position or length off the wire is believed") {
  // Every value of interest in each field of a small message: accepted only with the data inside it.
  const uint32_t values[] = {0,  1,  7,   8,          16,         20,         24,        31,
                             32, 33, 128, 0x7FFFFFFF, 0x80000000, 0xFFFFFFF8, 0xFFFFFFFF};
  for (const uint32_t offset : values) {
    for (const uint32_t length : values) {
      for (const uint32_t remaining : values) {
        Engine engine = established_server();
        Bytes message = bytes_of(encode(DataTransfer{.credits_requested = 1,
                                                     .remaining_data_length = remaining,
                                                     .data_offset = offset,
                                                     .data_length = length}));
        message.resize(32);
        const auto delivery = engine.receive(message, 0);
        const bool inside = uint64_t{offset} + length <= 32 && offset % 8 == 0;
        const bool fits = uint64_t{length} + remaining <= engine.limits().max_fragmented_size;
        REQUIRE(delivery.has_value() == (inside && fits));
        if (!delivery || delivery->kind != Delivery::Kind::fragment) continue;
        REQUIRE(delivery->data.size() == length);
        if (length > 0) REQUIRE(delivery->data.data() == message.data() + offset);
      }
    }
  }
}

TEST_CASE("ksmbd e94f91b: the request may come before anything says the connection is established") {
  Engine engine(Role::passive, {}, 0);
  post(engine);
  const auto delivery = engine.receive(encode(basic_request()), 0);  // the first call of all
  REQUIRE(delivery.has_value());
  CHECK(delivery->kind == Delivery::Kind::negotiated);
}

TEST_CASE("ksmbd a1de404: nothing of a received message is needed once receive() has returned") {
  Engine engine(Role::passive, {}, 0);
  post(engine);
  Bytes message = bytes_of(encode(basic_request()));
  REQUIRE(engine.receive(message, 0).has_value());
  std::ranges::fill(message, std::byte{0xFF});  // posted again, and overwritten
  REQUIRE(next(engine, 0).has_value());
  CHECK(engine.agreed().max_send_size == 1024);
  message = data_message({.granted = 3, .length = 10, .remaining = 20});
  REQUIRE(engine.receive(message, 0).has_value());
  std::ranges::fill(message, std::byte{0xFF});
  CHECK(engine.credits().send == 3);
  CHECK(feed(engine, {.length = 20}).last);
}

TEST_CASE("ksmbd 86d8d44: no byte of an outgoing header is left from before") {
  Engine engine = established_server();
  feed(engine, {.granted = 100, .flags = DataTransfer::kResponseRequested});
  const auto empty = next(engine, 0);
  REQUIRE(empty.has_value());
  REQUIRE(engine.begin(5));
  const auto data = next(engine, 0, 5);
  REQUIRE(data.has_value());
  for (const auto& message : {*empty, *data}) {
    for (size_t i : {6, 7, 20, 21, 22, 23}) CHECK(message.header[i] == std::byte{0});  // Reserved, padding
    for (size_t i = message.header_size; i < message.header.size(); ++i) {
      CHECK(message.header[i] == std::byte{0});
    }
  }
}

TEST_CASE("batch credit: fragments of two messages never mix") {
  Engine engine = established_server();
  feed(engine, {.granted = 3});
  REQUIRE(engine.begin(5000));
  REQUIRE(next(engine, 0, 5000).has_value());
  CHECK_FALSE(engine.begin(10));  // not while one is in progress, with credits or without
  REQUIRE(next(engine, 0, 4000).has_value());
  REQUIRE(next(engine, 0, 3000).has_value());
  CHECK_FALSE(next(engine, 0, 2000).has_value());
  CHECK_FALSE(engine.begin(10));
}

TEST_CASE("last-credit deadlock: two sides with one credit each and data both ways get through") {
  for (const uint16_t max : {uint16_t{1}, uint16_t{2}, uint16_t{255}}) {
    Pair pair(limits_with_credits(1, max, 1), limits_with_credits(1, max, 1));
    pair.client.queue = {50'000, 50'000};
    pair.server.queue = {50'000, 50'000};
    CHECK(pair.wait([&] { return pair.client.completed == 2 && pair.server.completed == 2; }, 1000));
  }
}

TEST_CASE("last-credit deadlock: a peer that stops at its last credit is granted more in time") {
  // Strictly by MS-SMBD 3.1.5.1, with nothing to grant, the peer keeps its last credit and waits.
  for (const uint16_t credits : {uint16_t{3}, uint16_t{8}, uint16_t{10}, uint16_t{32}}) {
    Limits limits;
    limits.receive_credit_max = credits;
    limits.receive_credit_initial = credits;
    NegotiateRequest request = basic_request();
    request.credits_requested = 255;
    Engine engine = established_server(limits, request);
    feed(engine, {.granted = 255, .length = 1, .remaining = 10'000});
    uint32_t left = 10'000;
    for (Millis now = 0; left > 0; ++now) {
      while (engine.credits().granted > 1 && left > 0) {
        const uint16_t grant = engine.credits().send < 100 ? 1 : 0;
        feed(engine, {.granted = grant, .length = 1, .remaining = --left}, now);
      }
      while (next(engine, now)) {
      }
      REQUIRE(now < 30'000);
    }
  }
}

TEST_CASE("empty ping-pong: an empty message is never answered by another while credits remain") {
  Engine engine = established_server();
  feed(engine, {.granted = 1000, .length = 1});
  while (next(engine, 0)) {
  }
  for (Millis now = 1; engine.credits().granted > 2; ++now) {
    feed(engine, {.granted = 1}, now);
    REQUIRE_FALSE(next(engine, now).has_value());
    REQUIRE_FALSE(next(engine, now + 4000).has_value());
  }
}

}  // namespace smbdirect::protocol::smb_direct::test
