// SPDX-License-Identifier: MIT
// Set-up and endings against a peer that is only bytes.
#include <algorithm>
#include <netinet/in.h>

#include <doctest/doctest.h>

#include "bytes.h"
#include "raw_peer.h"
#include "workers/fabric/iwarp/byte_order.h"
#include "workers/fabric/iwarp/terminate.h"

namespace smbdirect::test {
namespace {

using fabric::CloseCause;
using fabric::Op;

const auto kRequestKey = hex("4d504120494420526571204672616d65");
const auto kReplyKey = hex("4d504120494420526570204672616d65");

/// Accepting endpoint, raw initiator.
struct Accepted {
  explicit Accepted(iwarp::Options options = {}, const PairOptions& sockets = {})
      : Accepted(options, tcp_pair(sockets)) {}
  Accepted(const iwarp::Options& options, std::pair<shm::UniqueFd, shm::UniqueFd> sockets)
      : memory(4096),
        peer(loop, std::move(sockets.first)),
        endpoint(iwarp::accept(loop.get(), std::move(sockets.second), options, events)) {
    endpoint->start();
  }
  bool closed() {
    return loop.until([&] { return events.closed_calls > 0; });
  }
  /// A revision 2 handshake with CRC.
  void establish() {
    peer.say(kRequestKey + hex("50 02 0004 0010 0010"));
    CHECK(peer.hear(24) == kReplyKey + hex("50 02 0004 0010 0010"));
    CHECK(loop.until([&] { return events.established; }));
  }

  Loop loop;
  Recorder events;
  std::vector<std::byte> memory;
  RawPeer peer;
  std::unique_ptr<fabric::Endpoint> endpoint;
};

/// Connecting endpoint, raw responder.
struct Connected {
  explicit Connected(const iwarp::Options& options = {}) : memory(4096), peer(make(options)) {}
  RawPeer make(const iwarp::Options& options) {
    const Listener listener;
    auto made = iwarp::connect(loop.get(), listener.address, std::nullopt, options, events);
    REQUIRE(made.has_value());
    endpoint = std::move(*made);
    endpoint->start();
    return RawPeer(loop, listener.accept());
  }
  bool closed() {
    return loop.until([&] { return events.closed_calls > 0; });
  }
  void take_request() { CHECK(peer.hear(32) == kRequestKey + hex("50 02 000c 0010 0010 00000010 00000010")); }

  Loop loop;
  Recorder events;
  std::vector<std::byte> memory;
  std::unique_ptr<fabric::Endpoint> endpoint;
  RawPeer peer;
};

const iwarp::DdpHeader kFirstSend{.last = true, .opcode = 3, .queue = 0, .msn = 1};

TEST_CASE("accepting: golden set-up with SMB Direct's private data, in any pieces") {
  const auto request = kRequestKey + hex("10 02 000c 0020 0001 00000020 00000001");
  for (const size_t piece : {request.size(), size_t{1}, size_t{19}}) {
    iwarp::Options options;
    options.want_crc = false;
    Accepted it(options);
    REQUIRE(it.endpoint->post_receive(5, sge(it.memory)));
    for (size_t at = 0; at < request.size(); at += piece) {
      CHECK_FALSE(it.events.established);
      it.peer.say(std::span(request).subspan(at, std::min(piece, request.size() - at)));
      it.loop.turn(2);
    }
    CHECK(it.peer.hear(32) == kReplyKey + hex("10 02 000c 0001 0010 00000010 00000001"));
    REQUIRE(it.loop.until([&] { return it.events.established; }));
    CHECK_FALSE(it.endpoint->attributes().crc);
    CHECK(it.endpoint->attributes().max_outbound_reads == 16);
    it.peer.say(fpdu(kFirstSend, hex("0102030405"), false));
    REQUIRE(it.loop.until([&] { return it.events.count(Op::receive) == 1; }));
    CHECK(it.events.done[0].id == 5);
    CHECK(it.events.done[0].bytes == 5);
    CHECK(it.memory[4] == std::byte{5});
  }
}

TEST_CASE("accepting: revision 1") {
  Accepted it;
  it.peer.say(kRequestKey + hex("00 01 0000"));
  CHECK(it.peer.hear(20) == kReplyKey + hex("40 01 0000"));  // we want the CRC
  REQUIRE(it.loop.until([&] { return it.events.established; }));
  CHECK(it.endpoint->attributes().crc);
}

TEST_CASE("accepting: private data that is not ours to read is no obstacle") {
  Accepted it;
  it.peer.say(kRequestKey + hex("40 01 0005 0102030405"));
  CHECK(it.peer.hear(20) == kReplyKey + hex("40 01 0000"));
  CHECK(it.loop.until([&] { return it.events.established; }));
}

TEST_CASE("accepting: markers and unknown revisions are rejected with a reply") {
  Accepted markers;
  markers.peer.say(kRequestKey + hex("d0 02 0004 0010 0010"));
  CHECK(markers.peer.hear(24) == kReplyKey + hex("70 02 0004 0010 0010"));
  CHECK(markers.peer.wait_end());
  CHECK_FALSE(markers.peer.was_reset());
  markers.peer.close();
  REQUIRE(markers.closed());
  CHECK(markers.events.close.cause == CloseCause::setup_failed);
  CHECK(markers.events.close.detail.find("markers") != std::string::npos);
  CHECK_FALSE(markers.events.established);

  Accepted revision;
  revision.peer.say(kRequestKey + hex("40 07 0000"));
  CHECK(revision.peer.hear(20) == kReplyKey + hex("60 02 0000"));
  revision.peer.close();
  REQUIRE(revision.closed());
  CHECK(revision.events.close.cause == CloseCause::setup_failed);
}

TEST_CASE("accepting: what is no MPA request is not answered") {
  for (const auto& bytes :
       {hex("000000a4fe534d4240000100000000000000000000000000"), kReplyKey + hex("40 01 0000"),
        kRequestKey + hex("40 01 0201"), kRequestKey + hex("50 02 0003 001000")}) {
    Accepted it;
    it.peer.say(bytes);
    REQUIRE(it.closed());
    CHECK(it.events.close.cause == CloseCause::setup_failed);
    CHECK_FALSE(it.events.close.detail.empty());
    CHECK(it.peer.pending() == 0);
  }
}

TEST_CASE("accepting: a peer that stops half-way is gone by the deadline") {
  for (const size_t size : {0U, 1U, 19U, 20U, 31U}) {
    iwarp::Options options;
    options.handshake_timeout_ms = 30;
    Accepted it(options);
    const auto request = kRequestKey + hex("10 02 000c 0020 0001 00000020 00000001");
    if (size > 0) it.peer.say(std::span(request).first(size));
    REQUIRE(it.closed());
    CHECK(it.events.close.cause == CloseCause::setup_failed);
    CHECK(it.peer.wait_end());
  }
}

TEST_CASE("accepting: the peer leaves during set-up") {
  Accepted ended;
  ended.peer.say(std::span(kRequestKey).first(10));
  ended.peer.close();
  REQUIRE(ended.closed());
  CHECK(ended.events.close.cause == CloseCause::setup_failed);
  Accepted reset;
  reset.peer.reset();
  REQUIRE(reset.closed());
  CHECK(reset.events.close.cause == CloseCause::setup_failed);
}

TEST_CASE("accepting: nothing is sent before the first FPDU, which may be a ready-to-receive WRITE") {
  Accepted it;
  auto data = hex("aabbcc");
  const fabric::Sge pieces[] = {sge(data)};
  it.events.when_established = [&] {
    REQUIRE(it.endpoint->post_send(1, pieces));
    it.endpoint->ring();
  };
  it.peer.say(kRequestKey + hex("50 02 0004 8010 c010"));  // peer to peer, RTR by WRITE or READ
  CHECK(it.peer.hear(24) == kReplyKey + hex("50 02 0004 8010 8010"));
  REQUIRE(it.loop.until([&] { return it.events.established; }));
  it.loop.turn(20);
  CHECK(it.peer.pending() == 0);
  CHECK(it.events.done.empty());
  it.peer.say(fpdu({.tagged = true, .last = true, .opcode = 0}));
  CHECK(it.peer.hear(28) == fpdu(kFirstSend, data));
  REQUIRE(it.loop.until([&] { return it.events.count(Op::send) == 1; }));
}

TEST_CASE("accepting: a ready-to-receive READ of nothing is answered first") {
  Accepted it;
  it.peer.say(kRequestKey + hex("50 02 0004 8010 4010"));
  CHECK(it.peer.hear(24) == kReplyKey + hex("50 02 0004 8010 4010"));
  it.peer.say(read_request_fpdu(1, {.sink_stag = 1, .sink_offset = 2, .size = 0}));
  CHECK(it.peer.hear(20) == fpdu({.tagged = true, .last = true, .opcode = 2, .stag = 1, .offset = 2}));
}

TEST_CASE("a broken rule is answered with one Terminate and an orderly close") {
  Accepted it;
  it.establish();
  const auto bad = fpdu(kFirstSend, hex("01020304"));  // no receive is posted
  it.peer.say(bad);
  const auto payload =
      iwarp::encode_terminate(iwarp::terminate::kNoBuffer, std::span(bad).subspan(2, 18), 22);
  const auto terminate = fpdu({.last = true, .opcode = 7, .queue = 2, .msn = 1}, payload.span());
  CHECK(it.peer.hear(terminate.size()) == terminate);
  // Whatever the peer says now is not heard, and the Terminate is not lost to a reset.
  CHECK(it.peer.wait_end());
  CHECK_FALSE(it.peer.was_reset());
  CHECK(it.peer.pending() == 0);
  CHECK(it.events.closed_calls == 0);
  it.peer.close();
  REQUIRE(it.closed());
  CHECK(it.events.close.cause == CloseCause::protocol_error);
  CHECK(it.events.close.detail.find("(1/2/0x02)") != std::string::npos);
}

TEST_CASE("a Terminate that the peer does not read is given up") {
  iwarp::Options options;
  Accepted it(options, {.send_buffer = 1, .receive_buffer = 1});
  it.establish();
  it.peer.say(fpdu({.tagged = true, .last = true, .opcode = 0}));
  std::vector<std::byte> much(4'000'000);
  const fabric::Sge pieces[] = {sge(much)};
  REQUIRE(it.endpoint->post_write(1, pieces, {.offset = 0, .token = 5}));
  it.endpoint->ring();
  it.loop.turn(20);
  it.peer.say(fpdu({.tagged = true, .last = true, .opcode = 0, .stag = 9}, hex("00")));
  REQUIRE(it.closed());  // about a second
  CHECK(it.events.close.cause == CloseCause::protocol_error);
  CHECK(it.events.done.empty());
}

TEST_CASE("the peer's Terminate is reported, even when a reset follows it") {
  for (const bool reset : {false, true}) {
    Accepted it;
    it.establish();
    const auto payload = iwarp::encode_terminate(iwarp::terminate::kReadInvalidStag, {}, 0);
    it.peer.say(fpdu({.last = true, .opcode = 7, .queue = 2, .msn = 1}, payload.span()));
    if (reset) it.peer.reset();
    REQUIRE(it.closed());
    CHECK(it.events.close.cause == CloseCause::peer_terminate);
    CHECK(it.events.close.detail.find("RDMAP invalid STag (0/1/0x00)") != std::string::npos);
  }
}

TEST_CASE("what arrived before the end is delivered before the end") {
  for (const int how : {0, 1, 2}) {
    CAPTURE(how);
    Accepted it;
    it.establish();
    REQUIRE(it.endpoint->post_receive(1, sge(it.memory)));
    auto bytes = fpdu(kFirstSend, hex("0102"));
    if (how == 1) bytes = bytes + std::span(bytes).first(7);  // and then part of another
    it.peer.say(bytes);
    if (how == 2) {
      it.peer.reset();
    } else {
      it.peer.close();
    }
    REQUIRE(it.closed());
    CHECK(it.events.count(Op::receive) == 1);
    CHECK(it.events.close.cause == (how == 0 ? CloseCause::peer_closed : CloseCause::peer_reset));
    CHECK_FALSE(it.endpoint->post_send(1, {}).has_value());
    CHECK(it.endpoint->send_room() == 0);
  }
}

TEST_CASE("connecting: golden set-up, and the first FPDU") {
  Connected it;
  it.take_request();
  it.peer.say(kReplyKey + hex("50 02 000c 0010 0003 00000010 00000002"));
  REQUIRE(it.loop.until([&] { return it.events.established; }));
  CHECK(it.endpoint->attributes().max_outbound_reads == 2);
  CHECK(it.endpoint->attributes().crc);
  auto data = hex("010203");
  const fabric::Sge pieces[] = {sge(data)};
  const uint32_t token = 0x11223344;
  REQUIRE(it.endpoint->post_send(1, pieces, &token));
  it.endpoint->ring();
  CHECK(it.peer.hear(28) ==
        fpdu({.last = true, .opcode = 4, .invalidate_stag = token, .queue = 0, .msn = 1}, data));
  CHECK(it.endpoint->description().substr(0, 16) == "iwarp 127.0.0.1:");
  CHECK(it.endpoint->description().find(" -> 127.0.0.1:") != std::string_view::npos);
}

TEST_CASE("connecting: revision 1, and an FPDU right behind the reply") {
  iwarp::Options options;
  options.mpa_revision = 1;
  options.want_crc = false;
  Connected it(options);
  REQUIRE(it.endpoint->post_receive(1, sge(it.memory)));
  CHECK(it.peer.hear(28) == kRequestKey + hex("00 01 0008 00000010 00000010"));
  it.peer.say(kReplyKey + hex("00 01 0000") + fpdu(kFirstSend, hex("01"), false));
  REQUIRE(it.loop.until([&] { return it.events.count(Op::receive) == 1; }));
  CHECK_FALSE(it.endpoint->attributes().crc);
}

TEST_CASE("connecting: replies that end it, and what the peer is told") {
  struct Row {
    std::vector<std::byte> reply;
    bool terminate;
    iwarp::TerminateCode code;
  };
  const Row rows[] = {
      {kReplyKey + hex("70 02 0004 0010 0010"), false, {}},
      {kReplyKey + hex("d0 02 0004 0010 0010"), false, {}},
      {kReplyKey + hex("40 01 0000"), true, iwarp::terminate::kInvalidSetupFrame},
      {kReplyKey + hex("40 02 0000"), true, iwarp::terminate::kInvalidSetupFrame},
      {kRequestKey + hex("50 02 0004 0010 0010"), true, iwarp::terminate::kInvalidSetupFrame},
      {kReplyKey + hex("50 02 0004 0010 0011"), true, iwarp::terminate::kInsufficientIrd},
      {kReplyKey + hex("50 02 0004 8010 8010"), true, iwarp::terminate::kNoMatchingRtr},
  };
  for (const Row& row : rows) {
    Connected it;
    it.take_request();
    it.peer.say(row.reply);
    if (row.terminate) {
      const auto payload = iwarp::encode_terminate(row.code, {}, 0);
      const auto terminate = fpdu({.last = true, .opcode = 7, .queue = 2, .msn = 1}, payload.span());
      CHECK(it.peer.hear(terminate.size()) == terminate);
    }
    CHECK(it.peer.wait_end());
    CHECK(it.peer.pending() == 0);
    it.peer.close();
    REQUIRE(it.closed());
    CHECK(it.events.close.cause == CloseCause::setup_failed);
    CHECK_FALSE(it.events.established);
  }
}

TEST_CASE("connecting: refused, or never answered") {
  Loop loop;
  sockaddr_storage nowhere{};
  {
    const Listener gone;
    nowhere = gone.address;
  }
  Recorder refused;
  auto endpoint = iwarp::connect(loop.get(), nowhere, std::nullopt, {}, refused);
  REQUIRE(endpoint.has_value());
  (*endpoint)->start();
  CHECK(refused.closed_calls == 0);  // only from the loop
  REQUIRE(loop.until([&] { return refused.closed_calls > 0; }));
  CHECK(refused.close.cause == CloseCause::setup_failed);
  CHECK(refused.close.detail == "connect: Connection refused");

  const Listener silent;
  iwarp::Options options;
  options.handshake_timeout_ms = 30;
  Recorder late;
  endpoint = iwarp::connect(loop.get(), silent.address, std::nullopt, options, late);
  (*endpoint)->start();
  REQUIRE(loop.until([&] { return late.closed_calls > 0; }));
  CHECK(late.close.cause == CloseCause::setup_failed);

  sockaddr_storage odd{};
  odd.ss_family = AF_UNIX;
  CHECK_FALSE(iwarp::connect(loop.get(), odd, std::nullopt, {}, late).has_value());
}

TEST_CASE("connecting from an address of choice") {
  Loop loop;
  const Listener listener;
  sockaddr_storage from{};
  auto& in = reinterpret_cast<sockaddr_in&>(from);
  in.sin_family = AF_INET;
  in.sin_addr.s_addr = htonl(0x7f000002);
  Recorder events, other;
  auto endpoint = iwarp::connect(loop.get(), listener.address, from, {}, events);
  REQUIRE(endpoint.has_value());
  (*endpoint)->start();
  auto accepted = iwarp::accept(loop.get(), listener.accept(), {}, other);
  accepted->start();
  REQUIRE(loop.until([&] { return events.established && other.established; }));
  CHECK(accepted->description().find(" <- 127.0.0.2:") != std::string_view::npos);
  in.sin_addr.s_addr = htonl(0x08080808);  // not ours
  CHECK_FALSE(iwarp::connect(loop.get(), listener.address, from, {}, events).has_value());
}

}  // namespace
}  // namespace smbdirect::test
