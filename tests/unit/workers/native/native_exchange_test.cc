// SPDX-License-Identifier: MIT
// SMB2 messages through a native channel, in both directions, and how it begins and ends.
#include <cerrno>
#include <sys/wait.h>
#include <unistd.h>

#include <doctest/doctest.h>

#include "exchange_rig.h"
#include "shm/base/socket_address.h"
#include "tests/unit/shm/connection_literal.h"

using smbdirect::operator""_c;
using namespace smbdirect::workers;  // NOLINT: a test speaks of one thing
using namespace smbdirect::workers::native_test;
using smbdirect::protocol::proxy::FrameType;
namespace shm = smbdirect::shm;

TEST_CASE("the client's first message makes the facts, and the data area goes with them") {
  ExchangeRig rig;
  rig.open();
  CHECK(rig.areas.used() == kAreaBytes);
  const std::span<const std::byte> said(rig.peers.asked.introduction);
  const auto header =
      proxy::parse_frame_header(said.first<proxy::kFrameHeaderBytes>(), proxy::Sender::worker);
  REQUIRE(header);
  CHECK(header->type == FrameType::facts);
  CHECK(header->length == said.size() - proxy::kFrameHeaderBytes);
  const auto facts = proxy::parse_facts(said.subspan(proxy::kFrameHeaderBytes));
  REQUIRE(facts);
  CHECK(facts->area_bytes == kAreaBytes);
  CHECK(facts->max_pdu == rig.server->engine().agreed().max_fragmented_send_size);
  CHECK(facts->max_read_write == rig.config.max_read_write_size);
  CHECK(facts->max_operations == kOperations);
  CHECK(facts->client_guid.bytes == kClient.bytes);
  const auto mapped = [](const char* text, uint16_t port) {
    return proxy::address_of_host(shm::host_of(*shm::address_from_text(text, port)), port);
  };
  CHECK(facts->client == mapped("192.0.2.7", 40'000));
  CHECK(facts->server == mapped("2001:db8::1", 445));
  CHECK(facts->negotiate == negotiate_request());
  CHECK_FALSE(rig.peer.hear());  // it is told once: not as a PDU too
  CHECK_FALSE(rig.exchange->unfinished());
}

TEST_CASE("a client that does not begin with NEGOTIATE has no channel") {
  ExchangeRig rig;
  SUBCASE("another command") {
    rig.from_client(smb2_test::plain(smb2_test::kEcho, {}));
    rig.settle();
    CHECK(rig.broken.starts_with("the first SMB2 request: "));
  }
  SUBCASE("more than one can be, though it did not come whole") {
    REQUIRE(rig.client->begin_message(proxy::kMaxNegotiate + 1));
    const Bytes some(100);
    rig.client->append({}, some);
    rig.client->pump();
    const Bytes rest(8192);
    rig.client->append({}, rest);
    rig.settle();
    CHECK(rig.broken == "the first SMB2 message is too long for a NEGOTIATE");
  }
  CHECK_FALSE(rig.way);
  rig.from_client(negotiate_request());  // what comes later is nothing any more
}

TEST_CASE(
    "the process that serves takes another channel of its client's, and the session hears that bytes wait") {
  ExchangeRig rig;
  rig.open();
  rig.exchange->attached(4711);
  CHECK(rig.peers.served == 4711);
  CHECK(rig.peers.asked.client.connection == 7_c);
  auto [socket, theirs] = smbdirect::test::socket_pair();
  REQUIRE(rig.peers.pass_on(socket));
  CHECK(rig.queued == 1);
  rig.settle();
  const auto heard = rig.peer.hear();
  REQUIRE(heard);
  CHECK(heard->header.type == FrameType::channel);
  CHECK(heard->descriptor.valid());
  rig.exchange->detached();
  CHECK(rig.peers.over == std::vector{7_c});
}

TEST_CASE("a worker whose data areas are used up has none for another channel") {
  ExchangeRig rig;
  REQUIRE(rig.areas.charge(rig.areas.limit() - kAreaBytes + 1));
  rig.from_client(negotiate_request());
  rig.settle();
  REQUIRE(rig.way);
  REQUIRE_FALSE(*rig.way);
  CHECK(rig.way->error().system_errno == ENOMEM);
  CHECK(rig.way->error().what.contains("/upstream/channel/area_bytes_per_worker"));
  rig.areas.refund(rig.areas.used());
}

TEST_CASE("messages pass both ways as they are, whatever their size") {
  ExchangeRig rig;
  rig.open();
  for (const size_t size : {size_t(1), size_t(100), size_t(8000), size_t(300'000), size_t(5'000'000)}) {
    INFO(size);
    const Bytes request = pattern(size, uint32_t(size)), answer = pattern(size, uint32_t(size) + 1);
    rig.from_client(request);
    Bytes heard;
    for (int round = 0; round < 1'000 && heard.empty(); ++round) {
      rig.settle();
      if (auto pdu = rig.peer.hear()) {
        CHECK(pdu->header.type == FrameType::pdu);
        heard = std::move(pdu->body);
      }
    }
    CHECK(heard == request);
    CHECK_FALSE(rig.exchange->unfinished());
    rig.say(ExchangeRig::reply(answer));
    REQUIRE_FALSE(rig.client_side.messages.empty());
    CHECK(rig.client_side.messages.back() == answer);
  }
  CHECK(rig.client_side.complete == 5);
  CHECK(rig.server->own_counters().smb_requests == 6);  // with the NEGOTIATE
  CHECK(rig.server->own_counters().smb_responses == 5);
  CHECK(rig.broken.empty());
}

TEST_CASE("a message is cut through: its beginning is there before its end has come, either way") {
  ExchangeRig rig;
  rig.open();
  const Bytes message = pattern(40'000, 1);
  REQUIRE(rig.client->begin_message(message.size()));
  rig.client->append({}, std::span(message).first(20'000));
  rig.settle();
  CHECK(rig.peer.pending() > 16'000);  // whole fragments of it
  CHECK(rig.exchange->unfinished());
  rig.client->append({}, std::span(message).subspan(20'000));
  rig.settle();
  CHECK(rig.peer.hear()->body == message);

  const Bytes answer = ExchangeRig::reply(message);
  rig.say({answer.begin(), answer.begin() + 20'000});
  REQUIRE(rig.client_side.messages.size() == 1);
  CHECK(rig.client_side.messages[0].size() > 16'000);
  CHECK(rig.client_side.complete == 0);
  rig.say({answer.begin() + 20'000, answer.end()});
  CHECK(rig.client_side.messages[0] == message);
}

TEST_CASE("what is said of our own waits for the end of a message, and comes in its order") {
  ExchangeRig rig;
  rig.open();
  std::vector<std::byte> memory(100, std::byte{5});
  const auto at = rig.expose(memory, fabric::Access::remote_read);
  const Bytes message = pattern(30'000, 1);
  REQUIRE(rig.client->begin_message(message.size()));
  rig.client->append({}, std::span(message).first(15'000));
  rig.settle();
  rig.say(ExchangeRig::operation(FrameType::rdma_read, 31, 0, 100, {at}));
  rig.say(ExchangeRig::operation(FrameType::rdma_read, 32, 100, 100, {at}));
  CHECK(rig.area[199] == std::byte{5});  // done, but not said yet
  auto [end, kept] = smbdirect::test::socket_pair();
  const ino_t passed = inode(end.get());
  CHECK(rig.pass(std::move(end)));
  CHECK_FALSE(rig.pass(shm::UniqueFd(::dup(kept.get()))));  // one at a time
  rig.settle();
  CHECK(rig.peer.pending() <= proxy::kFrameHeaderBytes + 15'000);
  rig.client->append({}, std::span(message).subspan(15'000));
  rig.settle();
  const auto pdu = rig.peer.hear();
  REQUIRE(pdu);
  CHECK(pdu->body == message);
  CHECK(rig.done() == 31);
  CHECK(rig.done() == 32);
  const auto channel = rig.peer.hear();
  REQUIRE(channel);
  CHECK(channel->header.type == FrameType::channel);
  CHECK(inode(channel->descriptor.get()) == passed);
  // Between messages nothing waits.
  CHECK(rig.pass(shm::UniqueFd(::dup(kept.get()))));
  rig.settle();
  CHECK(inode(rig.peer.hear()->descriptor.get()) == inode(kept.get()));
}

TEST_CASE("what waits for the end of a message that never comes is closed with the exchange") {
  auto [end, other_end] = smbdirect::test::socket_pair();
  PeerEnd kept{std::move(other_end)};
  {
    ExchangeRig rig;
    rig.open();
    const Bytes message = pattern(30'000, 1);
    REQUIRE(rig.client->begin_message(message.size()));
    rig.client->append({}, std::span(message).first(15'000));
    rig.settle();
    CHECK(rig.pass(std::move(end)));
    CHECK_FALSE(kept.ended());
  }
  CHECK(kept.ended());
}

TEST_CASE("a reply invalidates the client's tokens that it names") {
  ExchangeRig rig;
  rig.open();
  std::vector<std::byte> memory(100);
  const auto one = rig.expose(memory, fabric::Access::remote_write);
  const auto two = rig.expose(memory, fabric::Access::remote_write);
  const Bytes answer = pattern(20'000, 3);
  rig.say(ExchangeRig::reply(answer, {two.token, one.token}));
  CHECK(rig.client_side.messages.at(0) == answer);
  CHECK(rig.client_side.invalidated == std::vector<uint32_t>{two.token, one.token});
}

TEST_CASE("a reply that is larger than the client takes ends the channel before a byte of it has gone") {
  smb_direct::Limits limits;
  limits.max_fragmented_size = 140'000;
  ExchangeRig rig(64u << 20, limits);
  rig.open();
  const uint32_t most = rig.server->engine().agreed().max_fragmented_send_size;
  const Bytes largest = pattern(most, 2);
  rig.say(ExchangeRig::reply(largest));
  CHECK(rig.client_side.messages.at(0) == largest);
  rig.say(ExchangeRig::reply(pattern(most + 1, 2)));
  CHECK(rig.broken.contains("more than the client takes"));
  CHECK(rig.client_side.messages.size() == 1);
}

TEST_CASE("a message that no frame holds ends the channel at its beginning") {
  smb_direct::Limits limits;
  limits.max_fragmented_size = 20u << 20;
  ExchangeRig rig(64u << 20, limits);
  rig.open();
  REQUIRE(rig.client->begin_message(uint64_t{proxy::kMaxPdu} + 1));
  const Bytes some(20'000);
  rig.client->append({}, some);
  rig.settle();
  CHECK(rig.broken.contains("more than the native channel takes"));
  CHECK(rig.peer.pending() == 0);
}

TEST_CASE("a reply passes through less memory than it has bytes, and waits while that is in use") {
  constexpr size_t kMemory = 2 * 256 * 1024;
  constexpr size_t kPart = 150'000;
  ExchangeRig rig(kMemory);
  rig.open();
  const Bytes answer = pattern(3'000'000, 4), said = ExchangeRig::reply(answer);
  for (size_t part = 0; part < 4; ++part) {
    rig.peer.say(std::span(said).subspan(part * kPart, kPart));
    const auto state = rig.exchange->pump(rig.upstream.get());
    CHECK(state == (part < 3 ? Exchange::State::drained : Exchange::State::no_memory));
  }
  CHECK(rig.exchange->pump(rig.upstream.get()) == Exchange::State::no_memory);
  CHECK(rig.payload.used() == kMemory);
  rig.settle();
  rig.say({said.begin() + 4 * kPart, said.end()});
  CHECK(rig.client_side.messages.at(0) == answer);
  CHECK(rig.client_side.complete == 1);
}

TEST_CASE("who takes the channel over says so, and the kernel says who it is") {
  ExchangeRig rig;
  rig.open();
  const pid_t child = ::fork();
  if (child == 0) {
    const Bytes word = attached();
    _exit(::send(rig.peer.fd(), word.data(), word.size(), 0) == ssize_t(word.size()) ? 0 : 1);
  }
  int status = -1;
  REQUIRE(::waitpid(child, &status, 0) == child);
  REQUIRE(status == 0);
  rig.settle();
  CHECK(rig.attached_by == std::vector<uint32_t>{uint32_t(child)});
  rig.say(attached());
  CHECK(rig.attached_by.back() == uint32_t(::getpid()));
}

TEST_CASE("what is no frame of a server process ends the channel, and nothing after it counts") {
  ExchangeRig rig;
  rig.open();
  Bytes other_version = attached();
  other_version.back() = std::byte{1};
  SUBCASE("HELLO, once too often") { rig.say(frame({.type = FrameType::hello}, proxy::encode_hello({}))); }
  SUBCASE("a worker's own") { rig.say(frame({.type = FrameType::done})); }
  SUBCASE("none that there is") { rig.say(frame({.type = FrameType(77)})); }
  SUBCASE("ATTACHED of another version") { rig.say(other_version); }
  SUBCASE("a reply without a message") { rig.say(frame({.type = FrameType::reply})); }
  SUBCASE("a reply with more tokens than there may be") {
    rig.say(frame({.type = FrameType::reply, .count = proxy::kMaxInvalidate + 1}, Bytes(100)));
  }
  CHECK(rig.broken.starts_with("the server's channel: "));
  CHECK(rig.state == Exchange::State::broken);
  CHECK(rig.exchange->pump(rig.upstream.get()) == Exchange::State::broken);
  rig.from_client(pattern(100, 1));
  CHECK_FALSE(rig.pass(shm::UniqueFd(::dup(0))));
  rig.settle();
  CHECK(rig.exchange->outbox().empty());
  CHECK(rig.client_side.messages.empty());
}

TEST_CASE("the end of the socket between frames is the end of the connection") {
  ExchangeRig rig;
  rig.open();
  rig.peer.say(ExchangeRig::reply(pattern(1'000, 1)));
  rig.peer.close();
  rig.settle();
  CHECK(rig.state == Exchange::State::end);
  CHECK(rig.broken.empty());
  CHECK(rig.client_side.complete == 1);
}

TEST_CASE("the end of the socket inside a frame is a fault") {
  const Bytes answer = ExchangeRig::reply(pattern(1'000, 1)), word = attached();
  for (const std::span<const std::byte> said : {std::span(answer).first(15), std::span(answer).first(16),
                                                std::span(answer).first(500), std::span(word).first(19)}) {
    ExchangeRig rig;
    rig.open();
    rig.peer.say(said);
    rig.peer.close();
    rig.settle();
    CHECK(rig.broken == "the server's channel was closed in the middle of a message");
    CHECK(rig.client_side.complete == 0);
    CHECK(rig.attached_by.empty());
  }
}

TEST_CASE("a reply that shows a session is told, in however many pieces it comes, and passes unchanged") {
  ExchangeRig rig;
  rig.open();
  Bytes setup = pattern(100, 6);
  const Bytes head = smb2_test::hex("fe534d42 4000 0000 160000c0 0100 0100 01000000");
  std::ranges::copy(head, setup.begin());
  rig.say(ExchangeRig::reply(setup));  // another leg is to come
  CHECK(rig.sessions_set_up == 0);
  setup[8] = setup[10] = setup[11] = std::byte{};  // success
  for (const std::byte byte : ExchangeRig::reply(setup)) rig.say(Bytes{byte});
  CHECK(rig.sessions_set_up == 1);
  CHECK(rig.broken.empty());
}
