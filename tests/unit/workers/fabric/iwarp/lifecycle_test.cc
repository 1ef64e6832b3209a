// SPDX-License-Identifier: MIT
// Endings: on_closed once and from the loop, whatever the cause and the moment; nothing leaks.
#include <algorithm>
#include <filesystem>
#include <functional>

#include <doctest/doctest.h>

#include "bytes.h"
#include "raw_peer.h"
#include "shm/loop/watched.h"
#include "workers/fabric/iwarp/byte_order.h"

namespace smbdirect::test {
namespace {

using fabric::CloseCause;
using fabric::Op;

size_t open_files() {
  return static_cast<size_t>(std::ranges::distance(std::filesystem::directory_iterator("/proc/self/fd")));
}

TEST_CASE("within a callback what is rung leaves at its end, or now") {
  Loop loop;
  const Listener listener(0);
  Recorder events;
  const auto endpoint = iwarp::connect(loop.get(), listener.address, std::nullopt, {}, events);
  REQUIRE(endpoint.has_value());
  (*endpoint)->start();
  RawPeer peer(loop, listener.accept());
  CHECK(peer.hear(32).size() == 32);
  bool looked = false;
  events.when_established = [&] {
    REQUIRE((*endpoint)->post_send(1, {}));
    (*endpoint)->ring();
    CHECK(peer.pending() == 0);
    (*endpoint)->ring_now();
    CHECK(peer.pending() > 0);
    CHECK(events.done.empty());
    looked = true;
  };
  peer.say(hex("4d504120494420526570204672616d65 50 02 0004 0010 0010"));
  REQUIRE(loop.until([&] { return events.count(Op::send) == 1; }));
  CHECK(looked);
}

TEST_CASE("an endpoint may be destroyed at any moment") {
  Loop loop;
  loop.turn();
  const size_t before = open_files();
  std::vector<std::byte> memory(2'000'000);
  const fabric::Sge pieces[] = {sge(memory)};
  for (int moment = 0; moment < 12; ++moment) {
    CAPTURE(moment);
    Recorder lone;
    if (moment < 3) {
      auto [near, far] = tcp_pair();
      auto endpoint = iwarp::accept(loop.get(), std::move(far), {}, lone);
      if (moment > 0) endpoint->start();
      if (moment > 1) loop.turn(3);
      endpoint.reset();
      loop.turn(3);
      CHECK(lone.closed_calls == 0);
      continue;
    }
    EndpointPair pair(loop, {}, {});
    if (moment == 3) pair.client.reset();
    if (moment == 4) loop.turn(2);
    if (moment >= 5) {
      REQUIRE(pair.establish());
      REQUIRE(pair.server->post_receive(1, sge(memory)));
      REQUIRE(pair.client->post_send(1, {}));
      pair.client->ring();
      REQUIRE(loop.until([&] { return pair.server_events.count(Op::receive) == 1; }));
    }
    if (moment == 6) REQUIRE(pair.client->post_write(2, pieces, {.offset = 1, .token = 2}));  // not rung
    if (moment == 7) {
      REQUIRE(pair.client->post_send(2, pieces));
      pair.client->ring();  // completions may be waiting
    }
    if (moment == 8) pair.client->disconnect();
    if (moment == 9) {
      pair.client->disconnect();
      loop.turn();
    }
    if (moment == 10) pair.client->abort();
    if (moment == 11) {
      REQUIRE(pair.client->post_send(2, pieces));  // too long: a Terminate is on its way
      pair.client->ring();
      loop.turn(2);
    }
    const int told = pair.client_events.closed_calls;
    const size_t completed = pair.client_events.done.size();
    pair.client.reset();
    loop.turn(5);
    CHECK(pair.client_events.closed_calls == told);
    CHECK(pair.client_events.done.size() == completed);
    if (moment >= 5) CHECK(loop.until([&] { return pair.server_events.closed_calls == 1; }));
  }
  loop.turn(5);
  CHECK(open_files() == before);
}

TEST_CASE("abort resets, tells both sides once, and only from the loop") {
  Loop loop;
  EndpointPair pair(loop, {}, {});
  REQUIRE(pair.establish());
  pair.client->abort();
  pair.client->abort();
  pair.client->disconnect();
  CHECK(pair.client_events.closed_calls == 0);
  REQUIRE(loop.until([&] { return pair.client_events.closed_calls + pair.server_events.closed_calls == 2; }));
  loop.turn(10);
  CHECK(pair.client_events.closed_calls == 1);
  CHECK(pair.client_events.close.cause == CloseCause::local);
  CHECK(pair.server_events.close.cause == CloseCause::peer_reset);
  CHECK(pair.client->post_receive(1, {}).error() == fabric::PostError::closed);
  CHECK(pair.client->post_write(1, {}, {}).error() == fabric::PostError::closed);
  CHECK(pair.client->post_read(1, {}, {}).error() == fabric::PostError::closed);
  CHECK(pair.client->expose({}, fabric::Access::remote_read).error() == fabric::PostError::closed);
}

TEST_CASE("disconnect sends what was posted, READs included") {
  Loop loop;
  EndpointPair pair(loop, {}, {}, {.send_buffer = 16'384, .receive_buffer = 16'384});
  REQUIRE(pair.establish());
  auto message = random_bytes(300'000, 1), source = random_bytes(200'000, 2);
  std::vector<std::byte> received(300'000), sink(200'000);
  const auto at = pair.client->expose(source, fabric::Access::remote_read);
  REQUIRE(at.has_value());
  REQUIRE(pair.server->post_receive(1, sge(received)));
  REQUIRE(pair.client->post_send(1, {}));
  pair.client->ring();
  REQUIRE(loop.until([&] { return pair.server_events.count(Op::receive) == 1; }));
  // The server says a lot, reads, and leaves at once.
  REQUIRE(pair.client->post_receive(1, sge(received)));
  const fabric::Sge pieces[] = {sge(message)};
  REQUIRE(pair.server->post_send(2, pieces));
  REQUIRE(pair.server->post_read(3, sge(sink), *at));
  pair.server->disconnect();
  CHECK(pair.server->post_send(4, {}).error() == fabric::PostError::closed);
  REQUIRE(loop.until([&] { return pair.client_events.closed_calls + pair.server_events.closed_calls == 2; }));
  CHECK(pair.client_events.count(Op::receive) == 1);
  CHECK(received == message);
  CHECK(pair.server_events.count(Op::rdma_read) == 1);
  CHECK(sink == source);
  CHECK(pair.server_events.close.cause == CloseCause::local);
  CHECK(pair.client_events.close.cause == CloseCause::peer_closed);
}

TEST_CASE("disconnect ends in bounded time when the peer does not follow") {
  Loop loop;
  auto sockets = tcp_pair();
  RawPeer peer(loop, std::move(sockets.first));
  Recorder events;
  auto endpoint = iwarp::accept(loop.get(), std::move(sockets.second), {}, events);
  endpoint->start();
  peer.say(hex("4d504120494420526571204672616d65 00 01 0000"));
  REQUIRE(loop.until([&] { return events.established; }));
  uv_update_time(&loop.get());
  const uint64_t begin = uv_now(&loop.get());
  endpoint->disconnect();
  CHECK(peer.wait_end());
  CHECK(events.closed_calls == 0);  // our side is shut down, the peer's is not
  REQUIRE(loop.until([&] { return events.closed_calls > 0; }));
  CHECK(uv_now(&loop.get()) - begin < 8000);
  CHECK(events.close.cause == CloseCause::local);
}

TEST_CASE("the end of an endpoint takes nothing from a descriptor that has its number by then") {
  Loop loop;
  EndpointPair pair(loop, {}, {});
  REQUIRE(pair.establish());
  pair.server->abort();
  REQUIRE(loop.until([&] { return pair.server_events.closed_calls + pair.client_events.closed_calls == 2; }));
  // Both sockets are closed, their endpoints are not gone.
  std::vector<std::pair<shm::UniqueFd, shm::UniqueFd>> sockets;
  std::vector<shm::Watched<shm::UniqueFd>> watched;
  int readable = 0;
  for (int i = 0; i < 4; ++i) {
    sockets.push_back(tcp_pair());
    const size_t at = watched.size();
    watched.emplace_back(loop.get(), std::move(sockets.back().first), [&, at](int, int) {
      ++readable;
      watched[at].want(0);
    });
    watched.back().want(UV_READABLE);
  }
  loop.turn(2);
  pair.server.reset();
  pair.client.reset();
  loop.turn(2);
  for (const auto& [near, far] : sockets) REQUIRE(::send(far.get(), "x", 1, MSG_NOSIGNAL) == 1);
  CHECK(loop.until([&] { return readable == 4; }));
}

TEST_CASE("disconnect and destroy during set-up") {
  Loop loop;
  for (const int turns : {0, 1, 2}) {
    EndpointPair pair(loop, {}, {});
    loop.turn(turns);
    pair.client->disconnect();
    CHECK(pair.client_events.closed_calls == 0);
    REQUIRE(loop.until([&] { return pair.client_events.closed_calls == 1; }));
    CHECK(pair.client_events.close.cause == CloseCause::local);
    pair.server->start();
    REQUIRE(loop.until([&] { return pair.server_events.closed_calls == 1; }));
    // The request may have been sent whole, and the reply then finds nobody.
    if (!pair.server_events.established) CHECK(pair.server_events.close.cause == CloseCause::setup_failed);
  }
}

TEST_CASE("the handler may post, ring and disconnect from its callbacks") {
  Loop loop;
  EndpointPair pair(loop, {}, {});
  std::vector<std::byte> memory(64);
  int left = 500;
  const auto again = [&](fabric::Endpoint& endpoint, const fabric::Completion& completion) {
    if (completion.op != Op::receive) return;
    REQUIRE(endpoint.post_receive(1, sge(memory)));
    if (--left == 0) return endpoint.disconnect();
    REQUIRE(endpoint.post_send(1, {}));
    endpoint.ring();
    endpoint.ring();
  };
  REQUIRE(pair.client->post_receive(1, sge(memory)));
  REQUIRE(pair.server->post_receive(1, sge(memory)));
  pair.client_events.when_done = [&](const auto& c) { again(*pair.client, c); };
  pair.server_events.when_done = [&](const auto& c) { again(*pair.server, c); };
  pair.client_events.when_established = [&] {
    REQUIRE(pair.client->post_send(1, {}));
    pair.client->ring();
  };
  pair.server->start();
  REQUIRE(loop.until([&] { return pair.client_events.closed_calls + pair.server_events.closed_calls == 2; }));
  CHECK(left == 0);
}

TEST_CASE("completions come in batches") {
  Loop loop;
  EndpointPair pair(loop, {}, {});
  REQUIRE(pair.establish());
  std::vector<std::byte> memory(100);
  const fabric::Sge pieces[] = {sge(memory)};
  for (uint64_t i = 0; i < 200; ++i) {
    REQUIRE(pair.server->post_receive(i, sge(memory)));
    REQUIRE(pair.client->post_send(i, pieces));
  }
  pair.client->ring();
  REQUIRE(loop.until([&] { return pair.server_events.count(Op::receive) == 200; }));
  REQUIRE(loop.until([&] { return pair.client_events.count(Op::send) == 200; }));
  CHECK(pair.client_events.calls <= 3);
  CHECK(pair.server_events.calls <= 20);
  for (uint64_t i = 0; i < 200; ++i) {
    CHECK(pair.server_events.done[i].id == i);
    CHECK(pair.client_events.done[i].id == i);
  }
}

TEST_CASE("a full send queue frees its places as completions are delivered") {
  Loop loop;
  iwarp::Options options;
  options.max_send_work = 4;
  options.max_receive_work = 4;
  EndpointPair pair(loop, options, options);
  REQUIRE(pair.establish());
  std::vector<std::byte> memory(16);
  for (int i = 0; i < 4; ++i) {
    REQUIRE(pair.server->post_receive(0, sge(memory)));
    REQUIRE(pair.client->post_send(0, {}));
  }
  CHECK(pair.server->post_receive(0, sge(memory)).error() == fabric::PostError::queue_full);
  pair.client->ring();
  CHECK(pair.client->send_room() == 0);  // written, but nobody was told
  CHECK(pair.client->post_send(0, {}).error() == fabric::PostError::queue_full);
  REQUIRE(loop.until([&] { return pair.client_events.done.size() == 4; }));
  CHECK(pair.client->send_room() == 4);
  REQUIRE(loop.until([&] { return pair.server_events.done.size() == 4; }));
  CHECK(pair.server->post_receive(0, sge(memory)).has_value());
}

TEST_CASE("revoking memory while its bytes are with the socket resets the connection") {
  Loop loop;
  const Listener listener(1);
  Recorder events;
  auto endpoint = iwarp::connect(loop.get(), listener.address, std::nullopt, {}, events);
  REQUIRE(endpoint.has_value());
  (*endpoint)->start();
  RawPeer peer(loop, listener.accept());
  CHECK(peer.hear(32).size() == 32);
  peer.say(hex("4d504120494420526570204672616d65 50 02 0004 0010 0010"));
  REQUIRE(loop.until([&] { return events.established; }));
  auto source = std::make_unique<std::vector<std::byte>>(16'000'000);
  const auto at = (*endpoint)->expose(*source, fabric::Access::remote_read);
  peer.say(read_request_fpdu(1, {.size = 16'000'000, .source_stag = at->token, .source_offset = at->offset}));
  REQUIRE(loop.until([&] { return (*endpoint)->traffic().fpdus_sent > 1; }));
  loop.turn(10);  // until the socket takes no more: the peer does not read
  (*endpoint)->unexpose(at->token);
  source.reset();  // a sanitizer sees any later use
  CHECK(events.closed_calls == 0);
  REQUIRE(loop.until([&] { return events.closed_calls > 0; }));
  CHECK(events.close.cause == CloseCause::protocol_error);
  CHECK(peer.wait_end());
  CHECK(peer.was_reset());
}

TEST_CASE("connections come and go without a trace") {
  Loop loop;
  std::vector<std::byte> memory(1000);
  const fabric::Sge pieces[] = {sge(memory)};
  size_t files = 0;
  for (int cycle = 0; cycle < 60; ++cycle) {
    if (cycle == 10) files = open_files();
    EndpointPair pair(loop, {}, {});
    REQUIRE(pair.establish());
    REQUIRE(pair.server->post_receive(1, sge(memory)));
    REQUIRE(pair.client->post_send(1, pieces));
    pair.client->ring();
    REQUIRE(loop.until([&] { return pair.server_events.count(Op::receive) == 1; }));
    pair.client->disconnect();
    REQUIRE(
        loop.until([&] { return pair.client_events.closed_calls + pair.server_events.closed_calls == 2; }));
  }
  loop.turn(5);
  CHECK(open_files() == files);
}

}  // namespace
}  // namespace smbdirect::test
