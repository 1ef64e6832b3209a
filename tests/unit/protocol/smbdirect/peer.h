// SPDX-License-Identifier: MIT
// A hand-made peer for engine tests: raw messages in, raw messages out, and the owner's chores (posting
// receives, draining next()) done in the order the engine asks for.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include <doctest/doctest.h>

#include "protocol/smbdirect/engine.h"
#include "protocol/smbdirect/messages.h"

namespace smbdirect::protocol::smb_direct::test {

using Bytes = std::vector<std::byte>;

template <size_t N>
Bytes bytes_of(const std::array<std::byte, N>& array) {
  return {array.begin(), array.end()};
}

inline NegotiateRequest basic_request() {
  return {.min_version = 0x0100,
          .max_version = 0x0100,
          .credits_requested = 10,
          .preferred_send_size = 1024,
          .max_receive_size = 1024,
          .max_fragmented_size = 131072};
}

inline NegotiateResponse basic_response() {
  return {.min_version = 0x0100,
          .max_version = 0x0100,
          .negotiated_version = 0x0100,
          .credits_requested = 10,
          .credits_granted = 10,
          .status = 0,
          .max_read_write_size = 0x100000,
          .preferred_send_size = 1024,
          .max_receive_size = 1024,
          .max_fragmented_size = 131072};
}

/// What the tests vary of a data transfer message; `length` bytes of zeros are appended at 24.
struct Data {
  uint16_t requested = 10;
  uint16_t granted = 0;
  uint16_t flags = 0;
  uint32_t length = 0;
  uint32_t remaining = 0;
};

inline Bytes data_message(const Data& d) {
  const bool empty = d.length == 0 && d.remaining == 0;
  Bytes message = bytes_of(encode(DataTransfer{.credits_requested = d.requested,
                                               .credits_granted = d.granted,
                                               .flags = d.flags,
                                               .remaining_data_length = d.remaining,
                                               .data_offset = empty ? 0 : DataTransfer::kDataOffset,
                                               .data_length = d.length}));
  message.resize(empty ? DataTransfer::kHeaderSize : message.size() + d.length);
  return message;
}

inline void post(Engine& engine) { engine.receives_posted(engine.receives_wanted()); }

/// Posts what is wanted, then takes the next message.
inline std::optional<Outgoing> next(Engine& engine, Millis now, uint64_t ready = 0,
                                    uint32_t max_payload = UINT32_MAX) {
  post(engine);
  auto message = engine.next(ready, now, max_payload);
  post(engine);
  return message;
}

inline std::span<const std::byte> header_of(const Outgoing& message) {
  return std::span(message.header).first(message.header_size);
}

/// The header's values; the payload is only counted.
inline DataTransfer data_of(const Outgoing& message) {
  Bytes whole(header_of(message).begin(), header_of(message).end());
  whole.resize(whole.size() + message.payload);
  const auto parsed = parse_data_transfer(whole);
  REQUIRE(parsed.has_value());
  return *parsed;
}

/// A server engine that has answered `request`.
inline Engine established_server(const Limits& limits = {},
                                 const NegotiateRequest& request = basic_request()) {
  Engine engine(Role::passive, limits, 0);
  post(engine);
  const auto delivery = engine.receive(encode(request), 0);
  REQUIRE(delivery.has_value());
  REQUIRE(delivery->kind == Delivery::Kind::negotiated);
  const auto response = next(engine, 0);
  REQUIRE(response.has_value());
  REQUIRE(engine.phase() == Phase::established);
  REQUIRE_FALSE(next(engine, 0).has_value());
  return engine;
}

/// A client engine that has taken `response` and not sent anything yet.
inline Engine established_client(const Limits& limits = {},
                                 const NegotiateResponse& response = basic_response()) {
  Engine engine(Role::active, limits, 0);
  const auto request = next(engine, 0);
  REQUIRE(request.has_value());
  const auto delivery = engine.receive(encode(response), 0);
  REQUIRE(delivery.has_value());
  REQUIRE(delivery->kind == Delivery::Kind::negotiated);
  REQUIRE(engine.phase() == Phase::established);
  return engine;
}

/// Feeds one message, which must be accepted.
inline Delivery feed(Engine& engine, const Data& data, Millis now = 0) {
  static thread_local Bytes message;  // outlives the delivery's span until the next call
  message = data_message(data);
  const auto delivery = engine.receive(message, now);
  if (!delivery) FAIL(fault_name(delivery.error()));
  return *delivery;
}

inline void check_fault(Engine& engine, const Bytes& message, Fault fault) {
  const auto delivery = engine.receive(message, 0);
  REQUIRE_FALSE(delivery.has_value());
  CHECK(fault_name(delivery.error()) == fault_name(fault));
  CHECK(engine.phase() == Phase::closed);
  CHECK(engine.fault() == fault);
  CHECK_FALSE(engine.next(UINT64_MAX, 0).has_value());
  CHECK(engine.receives_wanted() == 0);
  CHECK(engine.next_deadline() == kNever);
}

}  // namespace smbdirect::protocol::smb_direct::test
