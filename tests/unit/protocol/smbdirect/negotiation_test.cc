// SPDX-License-Identifier: MIT
#include "protocol/smbdirect/negotiation.h"

#include <utility>

#include <doctest/doctest.h>

#include "tests/unit/protocol/smbdirect/peer.h"

namespace smbdirect::protocol::smb_direct::test {
namespace {

NegotiateResponse response_of(const Outgoing& message) {
  const auto parsed = parse_negotiate_response(header_of(message));
  REQUIRE(parsed.has_value());
  REQUIRE(message.header_size == NegotiateResponse::kSize);
  REQUIRE(message.payload == 0);
  return *parsed;
}

/// A server that has been given `message` as its first.
struct Server {
  explicit Server(const Limits& limits = {}) : engine(Role::passive, limits, 0) {
    CHECK(engine.receives_wanted() == 1);
    post(engine);
    CHECK(engine.receives_wanted() == 0);
    CHECK_FALSE(engine.next(0, 0).has_value());  // nothing to say before the request
  }
  NegotiateResponse answer(const NegotiateRequest& request) {
    const auto delivery = engine.receive(encode(request), 0);
    REQUIRE(delivery.has_value());
    CHECK(delivery->kind == Delivery::Kind::negotiated);
    CHECK(engine.phase() == Phase::negotiating);
    const auto message = next(engine, 0);
    REQUIRE(message.has_value());
    CHECK_FALSE(message->disconnect);
    CHECK(engine.phase() == Phase::established);
    return response_of(*message);
  }
  Engine engine;
};

void check_refusal(const NegotiateResponse& response, uint32_t status) {
  CHECK(encode(response) ==
        encode(NegotiateResponse{.min_version = 0x0100, .max_version = 0x0100, .status = status}));
}

}  // namespace

TEST_CASE("BVT_SmbdNegotiate_Basic: sizes, credits and versions are agreed") {
  Server server;
  const NegotiateResponse response = server.answer(basic_request());
  CHECK(response.min_version == 0x0100);
  CHECK(response.max_version == 0x0100);
  CHECK(response.negotiated_version == 0x0100);
  CHECK(response.credits_requested == 255);
  CHECK(response.credits_granted == 10);
  CHECK(response.status == 0);
  CHECK(response.max_read_write_size == 8 * 1024 * 1024);
  CHECK(response.preferred_send_size == 1024);
  CHECK(response.max_receive_size == 1024);
  CHECK(response.max_fragmented_size == 8 * 1024 * 1024 + 128 * 1024);
  const Agreed& agreed = server.engine.agreed();
  CHECK(agreed.max_send_size == 1024);
  CHECK(agreed.max_receive_size == 1024);
  CHECK(agreed.max_fragmented_send_size == 131072);
  CHECK(agreed.max_read_write_size == 8 * 1024 * 1024);
  const Credits credits = server.engine.credits();
  CHECK(credits.granted == 10);
  CHECK(credits.posted >= credits.granted);
  CHECK(credits.send == 0);
}

TEST_CASE("PreferredSendSize 0, 127, 128: our MaxReceiveSize is 128") {
  for (const uint32_t size : {0u, 127u, 128u}) {
    Server server;
    NegotiateRequest request = basic_request();
    request.preferred_send_size = size;
    CHECK(server.answer(request).max_receive_size == 128);
    CHECK(server.engine.agreed().max_receive_size == 128);
  }
}

TEST_CASE("every field at its largest is accepted and bounded by our limits") {
  Server server;
  NegotiateRequest request = basic_request();
  request.credits_requested = UINT16_MAX;
  request.preferred_send_size = UINT32_MAX;
  request.max_receive_size = UINT32_MAX;
  request.max_fragmented_size = UINT32_MAX;
  const NegotiateResponse response = server.answer(request);
  CHECK(response.status == 0);
  CHECK(response.credits_granted == 32);  // receive_credit_initial
  CHECK(response.max_receive_size == 8192);
  CHECK(response.preferred_send_size == 8192);
  CHECK(server.engine.agreed().max_fragmented_send_size == UINT32_MAX);
}

TEST_CASE("the smallest legal values are accepted; the response stays within the request") {
  Server server;
  NegotiateRequest request = basic_request();
  request.credits_requested = 1;
  request.max_receive_size = 128;
  request.max_fragmented_size = 131072;
  const NegotiateResponse response = server.answer(request);
  CHECK(response.credits_granted == 1);
  CHECK(response.preferred_send_size == 128);
  CHECK(server.engine.agreed().max_send_size == 128);
}

TEST_CASE("Redundancy: a request of 512 bytes, 20 of them meaningful") {
  Server server;
  Bytes message = bytes_of(encode(basic_request()));
  message.resize(512, std::byte{0x5A});
  const auto delivery = server.engine.receive(message, 0);
  REQUIRE(delivery.has_value());
  CHECK(delivery->kind == Delivery::Kind::negotiated);
}

TEST_CASE("UncompletedMessage: 19 bytes end the connection") {
  Server server;
  Bytes message = bytes_of(encode(basic_request()));
  message.resize(19);
  check_fault(server.engine, message, Fault::message_too_short);
}

TEST_CASE("NegativeParameter_MinVersion, MaxVersion: refused with STATUS_NOT_SUPPORTED, then silence") {
  const std::pair<uint16_t, uint16_t> versions[] = {{0, 0x0100},      {0xFFFF, 0x0100}, {0x0100, 0},
                                                    {0x0100, 0xFFFF}, {0, 0},           {0, 0xFFFF},
                                                    {0x0200, 0x0200}, {0x00FF, 0x0101}};
  for (const auto& [min, max] : versions) {
    Server server;
    NegotiateRequest request = basic_request();
    request.min_version = min;
    request.max_version = max;
    request.credits_requested = 0;  // the version is looked at first
    const auto delivery = server.engine.receive(encode(request), 0);
    REQUIRE(delivery.has_value());
    CHECK(delivery->kind == Delivery::Kind::nothing);
    CHECK(server.engine.phase() == Phase::refusing);
    CHECK(server.engine.fault() == Fault::version_unsupported);
    CHECK(server.engine.receives_wanted() == 0);
    const auto message = server.engine.next(0, 0);
    REQUIRE(message.has_value());
    CHECK(message->disconnect);
    check_refusal(response_of(*message), 0xC00000BB);
    CHECK_FALSE(server.engine.next(0, 0).has_value());
    // No further answer, whatever comes.
    CHECK(server.engine.receive(encode(basic_request()), 0).has_value());
    CHECK_FALSE(server.engine.next(0, 0).has_value());
    CHECK(server.engine.next_deadline() == kNever);
    CHECK(server.engine.tick(1'000'000).has_value());
  }
}

TEST_CASE(
    "NegativeParameter: CreditsRequested 0, MaxReceiveSize 127, MaxFragmentedSize 131071 end silently") {
  struct Case {
    uint16_t credits;
    uint32_t receive, fragmented;
    Fault fault;
  };
  for (const Case& c : {Case{0, 1024, 131072, Fault::credits_requested_zero},
                        Case{1, 127, 131072, Fault::max_receive_size_too_small},
                        Case{1, 0, 131072, Fault::max_receive_size_too_small},
                        Case{1, 128, 131071, Fault::max_fragmented_size_too_small},
                        Case{1, 128, 0, Fault::max_fragmented_size_too_small}}) {
    Server server;
    NegotiateRequest request = basic_request();
    request.credits_requested = c.credits;
    request.max_receive_size = c.receive;
    request.max_fragmented_size = c.fragmented;
    check_fault(server.engine, bytes_of(encode(request)), c.fault);
  }
}

TEST_CASE("no receive posted when the response is due: STATUS_INSUFFICIENT_RESOURCES") {
  Server server;
  REQUIRE(server.engine.receive(encode(basic_request()), 0).has_value());
  CHECK(server.engine.receives_wanted() == 10);
  const auto message = server.engine.next(0, 0);
  REQUIRE(message.has_value());
  CHECK(message->disconnect);
  check_refusal(response_of(*message), 0xC000009A);
  CHECK(server.engine.phase() == Phase::refusing);
  CHECK(server.engine.fault() == Fault::negotiate_refused);
  CHECK_FALSE(server.engine.next(0, 0).has_value());
}

TEST_CASE("fewer receives posted than wanted: CreditsGranted is what was posted") {
  Server server;
  REQUIRE(server.engine.receive(encode(basic_request()), 0).has_value());
  server.engine.receives_posted(3);
  const auto message = server.engine.next(0, 0);
  REQUIRE(message.has_value());
  CHECK(response_of(*message).credits_granted == 3);
}

TEST_CASE("a second message before the response has no credit") {
  Server server;
  REQUIRE(server.engine.receive(encode(basic_request()), 0).has_value());
  post(server.engine);
  check_fault(server.engine, bytes_of(encode(basic_request())), Fault::no_receive_credit);
}

TEST_CASE("a negotiate request after negotiation is a data message, and a bad one") {
  Engine engine = established_server();
  // CreditsRequested lands on MinVersion, DataOffset on MaxReceiveSize, DataLength on MaxFragmentedSize.
  check_fault(engine, bytes_of(encode(basic_request())), Fault::data_beyond_message);
}

TEST_CASE("limits below the protocol's floors are raised to them") {
  Limits limits;
  limits.receive_credit_initial = 0;
  limits.receive_credit_max = 0;
  limits.send_credit_target = 0;
  limits.max_send_size = 0;
  limits.max_receive_size = 5;
  limits.max_fragmented_size = 1;
  Server server(limits);
  const NegotiateResponse response = server.answer(basic_request());
  CHECK(response.credits_requested == 1);
  CHECK(response.credits_granted == 1);
  CHECK(response.preferred_send_size == 128);
  CHECK(response.max_receive_size == 128);
  CHECK(response.max_fragmented_size == 131072);
}

TEST_CASE("active: the request carries our limits, and needs a posted receive first") {
  Engine engine(Role::active, {}, 0);
  CHECK_FALSE(engine.next(0, 0).has_value());
  const auto message = next(engine, 0);
  REQUIRE(message.has_value());
  CHECK(message->header_size == NegotiateRequest::kSize);
  const auto request = parse_negotiate_request(header_of(*message));
  REQUIRE(request.has_value());
  CHECK(request->min_version == 0x0100);
  CHECK(request->max_version == 0x0100);
  CHECK(request->credits_requested == 255);
  CHECK(request->preferred_send_size == 8192);
  CHECK(request->max_receive_size == 8192);
  CHECK(request->max_fragmented_size == 8 * 1024 * 1024 + 128 * 1024);
  CHECK_FALSE(next(engine, 0).has_value());
  CHECK_FALSE(engine.begin(1));  // not yet
}

TEST_CASE("active: the response's values are taken, the smaller of both") {
  const Engine engine = established_client();
  CHECK(engine.agreed().max_send_size == 1024);
  CHECK(engine.agreed().max_receive_size == 1024);
  CHECK(engine.agreed().max_fragmented_send_size == 131072);
  CHECK(engine.agreed().max_read_write_size == 0x100000);
  CHECK(engine.credits().send == 10);
  CHECK(engine.credits().receive_target == 10);
}

TEST_CASE("active: PreferredSendSize below 128 still means 128") {
  NegotiateResponse response = basic_response();
  response.preferred_send_size = 5;
  CHECK(established_client({}, response).agreed().max_receive_size == 128);
}

TEST_CASE("active: each rule of MS-SMBD 3.1.5.7") {
  struct Case {
    void (*change)(NegotiateResponse&);
    Fault fault;
  };
  const Case cases[] = {
      {[](NegotiateResponse& r) { r.negotiated_version = 0x0200; }, Fault::version_unsupported},
      {[](NegotiateResponse& r) { r.max_receive_size = 127; }, Fault::max_receive_size_too_small},
      {[](NegotiateResponse& r) { r.max_fragmented_size = 131071; }, Fault::max_fragmented_size_too_small},
      {[](NegotiateResponse& r) { r.credits_granted = 0; }, Fault::response_invalid},
      {[](NegotiateResponse& r) { r.credits_requested = 0; }, Fault::credits_requested_zero},
      {[](NegotiateResponse& r) { r.preferred_send_size = 8193; }, Fault::response_invalid},
      {[](NegotiateResponse& r) { r.status = 1; }, Fault::negotiate_refused},
      {[](NegotiateResponse& r) { r = make_refusal(kStatusNotSupported); }, Fault::negotiate_refused},
      {[](NegotiateResponse& r) { r = make_refusal(kStatusInsufficientResources); },
       Fault::negotiate_refused},
  };
  for (const Case& c : cases) {
    Engine engine(Role::active, {}, 0);
    REQUIRE(next(engine, 0).has_value());
    NegotiateResponse response = basic_response();
    c.change(response);
    check_fault(engine, bytes_of(encode(response)), c.fault);
  }
  Engine engine(Role::active, {}, 0);
  REQUIRE(next(engine, 0).has_value());
  Bytes short_response = bytes_of(encode(basic_response()));
  short_response.resize(31);
  check_fault(engine, short_response, Fault::message_too_short);
}

TEST_CASE("two engines negotiate with each other") {
  Engine client(Role::active, {}, 0);
  Engine server(Role::passive, {}, 0);
  post(server);
  const auto request = next(client, 0);
  REQUIRE(request.has_value());
  REQUIRE(server.receive(header_of(*request), 0).has_value());
  const auto response = next(server, 0);
  REQUIRE(response.has_value());
  REQUIRE(client.receive(header_of(*response), 0).has_value());
  CHECK(client.phase() == Phase::established);
  CHECK(server.phase() == Phase::established);
  CHECK(client.agreed().max_send_size == server.agreed().max_receive_size);
  CHECK(client.agreed().max_receive_size == server.agreed().max_send_size);
}

}  // namespace smbdirect::protocol::smb_direct::test
