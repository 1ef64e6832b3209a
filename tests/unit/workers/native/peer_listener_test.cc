// SPDX-License-Identifier: MIT
// Processes that come to a worker's listener: those that were started for a connection, and others.
#include <array>
#include <cerrno>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <doctest/doctest.h>

#include "finder_rig.h"
#include "tests/unit/shm/connection_literal.h"

using smbdirect::operator""_c;
using namespace smbdirect::workers;  // NOLINT: a test speaks of one thing
using namespace smbdirect::workers::native_test;

TEST_CASE("a client that nobody serves gets the process that comes with its cookie") {
  FinderRig rig;
  rig.listen_for_peers();
  auto client = rig.connect(5);
  client->start();
  rig.turn();
  CHECK(rig.sent.empty());  // the claim is the session's
  rig.finder->claimed(5_c, ClaimOutcome::granted);
  const auto cookie = rig.wanted(5);
  CHECK(cookie != proxy::Cookie{});

  PeerEnd peer = rig.knock();
  const Bytes word = hello(cookie);
  peer.say(std::span(word).first(20));
  rig.turn();
  CHECK(peer.pending() == 0);
  peer.say(std::span(word).subspan(20));
  rig.hear_facts(peer, *client);
  CHECK_FALSE(client->result);
  CHECK(client->upstream->process() == 0);

  // In pieces, and with the session's first frame behind it, which stays in the socket.
  const Bytes rest = attached() + hello({});
  peer.say(std::span(rest).first(7));
  rig.turn();
  CHECK_FALSE(client->result);
  peer.say(std::span(rest).subspan(7));
  rig.until([&] { return client->result.has_value(); });
  REQUIRE(client->served());
  CHECK(client->upstream->process() == uint32_t(::getpid()));
  std::array<std::byte, 100> bytes{};
  CHECK(::recv((*client->result)->get(), bytes.data(), bytes.size(), MSG_DONTWAIT) ==
        ssize_t(hello({}).size()));
  CHECK(rig.sent.size() == 1);
  // It does not end with the attempt.
  client->upstream.reset();
  rig.turn();
  CHECK_FALSE(peer.ended());
}

TEST_CASE("every connection has a cookie of its own") {
  FinderRig rig;
  rig.listen_for_peers();
  auto one = rig.connect(1, guid(1), false), two = rig.connect(2, guid(1), false);
  one->start();
  const auto first = rig.wanted(1);  // an unclaimable client asks at once
  two->start();
  const auto second = rig.wanted(2);
  CHECK(first != second);
  PeerEnd to_two = rig.knock(), to_one = rig.knock();
  to_two.say(hello(second));
  to_one.say(hello(first));
  rig.hear_facts(to_two, *two);
  rig.hear_facts(to_one, *one);
  to_one.say(attached());
  rig.until([&] { return one->served(); });
  CHECK_FALSE(two->result);
}

TEST_CASE("a cookie of nobody, or one that was used, opens nothing") {
  FinderRig rig;
  rig.listen_for_peers();
  auto client = rig.connect(5, guid(1), false);
  client->start();
  const auto cookie = rig.wanted(5);
  auto wrong = cookie;
  wrong.bytes.back() ^= std::byte{1};
  for (const proxy::Cookie& other : {wrong, proxy::Cookie{}}) {
    PeerEnd stranger = rig.knock();
    stranger.say(hello(other));
    rig.until([&] { return stranger.ended(); });
    CHECK(stranger.pending() == 0);
  }
  PeerEnd peer = rig.knock();
  peer.say(hello(cookie));
  rig.hear_facts(peer, *client);
  PeerEnd again = rig.knock();
  again.say(hello(cookie));
  rig.until([&] { return again.ended(); });
  CHECK(again.pending() == 0);
  peer.say(attached());
  rig.until([&] { return client->served(); });
  PeerEnd late = rig.knock();
  late.say(hello(cookie));
  rig.until([&] { return late.ended(); });
}

TEST_CASE("who says anything but HELLO at the listener is closed, and keeps nobody out") {
  FinderRig rig;
  rig.listen_for_peers();
  auto client = rig.connect(5, guid(1), false);
  client->start();
  const auto cookie = rig.wanted(5);
  Bytes other_version = hello(cookie);
  other_version[proxy::kFrameHeaderBytes] = std::byte{99};
  Bytes other_length = hello(cookie);
  other_length[0] = std::byte{1};
  Bytes other_type = hello(cookie);
  other_type[4] = std::byte{uint8_t(proxy::FrameType::attached)};
  for (const Bytes& said : {other_version, other_length, other_type, Bytes(200, std::byte{0xFF})}) {
    PeerEnd stranger = rig.knock();
    stranger.say(said);
    rig.until([&] { return stranger.ended(); });
  }
  PeerEnd leaver = rig.knock();
  const Bytes word = hello(cookie);
  leaver.say(std::span(word).first(30));
  rig.turn();
  leaver.close();
  PeerEnd half = rig.knock();
  REQUIRE(::shutdown(half.fd(), SHUT_WR) == 0);
  rig.until([&] { return half.ended(); });
  PeerEnd peer = rig.knock();
  peer.say(hello(cookie));
  rig.hear_facts(peer, *client);
}

TEST_CASE("there is room for so many who say nothing, and for no longer than their time") {
  FinderRig rig;
  rig.listen_for_peers();
  auto client = rig.connect(5, guid(1), false);
  client->start();
  const auto cookie = rig.wanted(5);
  std::vector<PeerEnd> guests;
  for (size_t i = 0; i < PeerListener::kMaxPending; ++i) guests.push_back(rig.knock());
  rig.turn();
  for (size_t i = 1; i < guests.size(); ++i) CHECK_FALSE(guests[i].ended());
  PeerEnd one_more = rig.knock();
  rig.until([&] { return guests[0].ended(); });  // the oldest
  CHECK_FALSE(guests[1].ended());
  CHECK_FALSE(one_more.ended());
  // One is slow, not silent: a byte now and then does not prolong its time.
  const uint64_t began = uv_now(&rig.loop);
  const Bytes word = hello(cookie);
  guests[1].say(std::span(word).first(10));
  rig.until([&] { return guests[1].ended(); });
  CHECK(uv_now(&rig.loop) - began <= PeerListener::kPendingMs + 1'000);
  rig.until([&] { return one_more.ended(); });
  for (PeerEnd& guest : guests) CHECK(guest.ended());
  PeerEnd peer = rig.knock();
  peer.say(hello(cookie));
  rig.hear_facts(peer, *client);
}

TEST_CASE("a process that does not attach itself ends the attempt: by leaving, by saying something else") {
  FinderRig rig;
  rig.listen_for_peers();
  const Bytes word = attached();
  int expected = 0;
  auto client = rig.connect(5, guid(1), false);
  client->start();
  PeerEnd peer = rig.knock();
  peer.say(hello(rig.wanted(5)));
  rig.hear_facts(peer, *client);
  SUBCASE("it leaves") {
    peer.close();
    expected = ECONNRESET;
  }
  SUBCASE("it leaves in the middle of the word") {
    peer.say(std::span(word).first(19));
    peer.close();
    expected = ECONNRESET;
  }
  SUBCASE("another frame") {
    peer.say(frame({.type = proxy::FrameType::reply}, Bytes(4)));
    expected = EPROTO;
  }
  SUBCASE("another version") {
    Bytes other = word;
    other.back() = std::byte{1};
    peer.say(other);
    expected = EPROTO;
  }
  SUBCASE("a worker's frame") {
    peer.say(frame({.type = proxy::FrameType::done, .id = 1}) + Bytes(4));
    expected = EPROTO;
  }
  rig.until([&] { return client->result.has_value(); });
  CHECK(client->error() == expected);
  client->upstream.reset();
  rig.until([&] { return peer.fd() < 0 || peer.ended(); });
}

TEST_CASE("a word said before the worker can know whose it is attaches nobody") {
  FinderRig rig;
  rig.listen_for_peers();
  auto client = rig.connect(5, guid(1), false);
  client->start();
  PeerEnd peer = rig.knock();
  rig.turn();  // the listener has it, and has not asked the kernel for names yet
  peer.say(hello(rig.wanted(5)) + attached());
  rig.until([&] { return client->result.has_value(); });
  CHECK(client->error() == EPROTO);
}

TEST_CASE("a process that left before it was answered ends the attempt") {
  FinderRig rig;
  rig.listen_for_peers();
  auto client = rig.connect(5, guid(1), false);
  client->start();
  {
    PeerEnd peer = rig.knock();
    peer.say(hello(rig.wanted(5)));
  }
  rig.until([&] { return client->result.has_value(); });
  CHECK_FALSE(client->served());
}

TEST_CASE("while the worker has no descriptor left the listener rests, and whoever waits is let in later") {
  FinderRig rig;
  rig.listen_for_peers();
  auto client = rig.connect(5, guid(1), false);
  client->start();
  PeerEnd peer = rig.knock();
  peer.say(hello(rig.wanted(5)));
  rlimit before{};
  REQUIRE(::getrlimit(RLIMIT_NOFILE, &before) == 0);
  const rlimit none{.rlim_cur = 0, .rlim_max = before.rlim_max};
  REQUIRE(::setrlimit(RLIMIT_NOFILE, &none) == 0);
  bool over = false;
  smbdirect::shm::Timer end(rig.loop, [&] { over = true; });
  end.start(100);
  int turns = 0;
  for (; !over; ++turns) uv_run(&rig.loop, UV_RUN_ONCE);
  REQUIRE(::setrlimit(RLIMIT_NOFILE, &before) == 0);
  CHECK(turns < 20);
  rig.hear_facts(peer, *client);
}

TEST_CASE("a descriptor that comes with the word is closed") {
  FinderRig rig;
  rig.listen_for_peers();
  auto client = rig.connect(5, guid(1), false);
  client->start();
  PeerEnd peer = rig.knock();
  peer.say(hello(rig.wanted(5)));
  rig.hear_facts(peer, *client);
  int ends[2] = {-1, -1};
  REQUIRE(::pipe2(ends, O_CLOEXEC | O_NONBLOCK) == 0);
  const smbdirect::shm::UniqueFd out(ends[0]);
  smbdirect::shm::UniqueFd in(ends[1]);
  const Bytes word = attached();
  REQUIRE(smbdirect::test::send_with(peer.fd(), word, in.get()) == ssize_t(word.size()));
  in.reset();
  rig.until([&] { return client->served(); });
  std::array<char, 1> byte{};
  CHECK(::read(out.get(), byte.data(), 1) == 0);  // nobody has the other end any more
}
