// SPDX-License-Identifier: MIT
// What a deadline can ask a connection: what waits for the peer, and whether anything moves.
#include <algorithm>
#include <sys/socket.h>

#include <doctest/doctest.h>

#include "raw_peer.h"
#include "stream_victim.h"

namespace smbdirect::test {
namespace {

using fabric::Op;
using fabric::Progress;

TEST_CASE("an answer to a READ moves with every byte, and with nothing else") {
  Victim victim;
  iwarp::Stream& stream = victim.stream;
  std::vector<std::byte> sink(3000);
  CHECK_FALSE(stream.progress().reading);
  for (uint64_t id = 0; id < 6; ++id) {  // two more than may be outstanding
    REQUIRE(stream.post_read(id, sge(std::span(sink).first(id == 5 ? 0 : sink.size())), {1, 2}));
  }
  CHECK(stream.progress().reading);
  CHECK_FALSE(stream.progress().sending);  // READs wait for one another; the request is not asked for yet
  for (uint64_t id = 0; id < 6; ++id) {
    CAPTURE(id);
    static std::vector<std::byte> requests;
    requests = id == 0 ? take_all(stream) : requests + take_all(stream);
    const auto request = std::span(requests).subspan(id * 52, 52);
    const uint32_t stag = iwarp::get_be32(request.data() + 20);
    const uint64_t offset = iwarp::get_be64(request.data() + 24);
    const size_t length = id == 5 ? 0 : sink.size();
    const auto answer =
        fpdu({.tagged = true, .last = true, .opcode = 2, .stag = stag, .offset = offset}, bytes_of(length));
    const Progress before = stream.progress();
    CHECK(before.reading);
    // An empty WRITE is a peer that is there, not one that answers.
    feed(stream, fpdu({.tagged = true, .last = true, .opcode = 0}), 100);
    CHECK(stream.progress().read == before.read);
    CHECK(stream.progress().received == before.received);
    uint64_t last = before.read;
    size_t moved = 0;
    for (size_t at = 0; at < answer.size(); ++at) {
      feed(stream, std::span(answer).subspan(at, 1), 1);
      moved += stream.progress().read > last ? 1 : 0;
      last = stream.progress().read;
      if (at + 1 < answer.size()) CHECK(stream.progress().receiving);
    }
    REQUIRE_FALSE(stream.fault());
    CHECK(moved == length + 1);
    CHECK(stream.progress().received == before.received + length);
    CHECK_FALSE(stream.progress().receiving);
    CHECK_FALSE(stream.hand_out_completed().empty());
  }
  CHECK_FALSE(stream.progress().reading);
}

TEST_CASE("a message that has begun is under way until its last segment is complete") {
  Victim victim;
  iwarp::Stream& stream = victim.stream;
  std::vector<std::byte> into(1000);
  REQUIRE(stream.post_receive(1, sge(into)));
  const auto first = fpdu(send_header(1, 0, false), bytes_of(300));
  const auto second = fpdu(send_header(1, 300), bytes_of(100));
  CHECK_FALSE(stream.progress().receiving);
  feed(stream, std::span(first).first(1), 1);
  CHECK(stream.progress().receiving);
  feed(stream, std::span(first).subspan(1), 7);
  CHECK(stream.progress().receiving);  // between two of its segments
  CHECK(stream.progress().received == 300);
  feed(stream, second, 7);
  CHECK_FALSE(stream.progress().receiving);
  CHECK(stream.progress().received == 400);
  CHECK(stream.progress().read == 0);
}

TEST_CASE("what the peer does not take stands still, and moves when it does") {
  Loop loop;
  auto sockets = tcp_pair({.send_buffer = 1, .receive_buffer = 1});
  RawPeer peer(loop, std::move(sockets.first));
  Recorder events;
  iwarp::Options options;
  options.want_crc = false;
  auto endpoint = iwarp::accept(loop.get(), std::move(sockets.second), options, events);
  endpoint->start();
  peer.say(hex("4d504120494420526571204672616d65 00 01 0000"));
  REQUIRE(loop.until([&] { return events.established; }));
  CHECK(peer.hear(20).size() == 20);
  peer.say(fpdu({.tagged = true, .last = true, .opcode = 0}, {}, false));  // it has spoken: so may we
  REQUIRE(loop.until([&] { return endpoint->traffic().fpdus_received == 1; }));
  CHECK_FALSE(endpoint->progress().sending);
  CHECK(endpoint->progress().acknowledged == 20);

  std::vector<std::byte> memory(1'000'000);
  const fabric::Sge pieces[] = {sge(memory)};
  REQUIRE(endpoint->post_send(1, pieces));
  CHECK(endpoint->progress().sending);
  endpoint->ring();
  uint64_t stands = 0;
  REQUIRE(loop.until([&] {
    const Progress now = endpoint->progress();
    const bool same = now.sending && now.acknowledged == stands;
    stands = now.acknowledged;
    return same && peer.pending() > 0;
  }));
  CHECK(stands < memory.size() / 2);
  size_t heard = 0;
  REQUIRE(loop.until([&] {
    heard += peer.hear(peer.pending()).size();
    return endpoint->progress().acknowledged > stands;
  }));
  CHECK(endpoint->progress().sending);
  REQUIRE(loop.until([&] {
    heard += peer.hear(peer.pending()).size();
    return !endpoint->progress().sending;
  }));
  CHECK(endpoint->progress().acknowledged == heard + 20);
  CHECK(events.count(Op::send) == 1);

  endpoint->abort();
  CHECK_FALSE(endpoint->progress().sending);
}

TEST_CASE("a peer that keeps its window shut, or is gone, is given up in time") {
  Loop loop;
  auto sockets = tcp_pair({.send_buffer = 1, .receive_buffer = 1});
  const int near = sockets.second.get();
  RawPeer peer(loop, std::move(sockets.first));
  Recorder events;
  auto endpoint = iwarp::accept(loop.get(), std::move(sockets.second),
                                {.want_crc = false, .peer_timeout_ms = 400}, events);
  endpoint->start();
  peer.say(hex("4d504120494420526571204672616d65 00 01 0000"));
  REQUIRE(loop.until([&] { return events.established; }));
  int alive = 0;
  socklen_t size = sizeof alive;
  REQUIRE(::getsockopt(near, SOL_SOCKET, SO_KEEPALIVE, &alive, &size) == 0);
  CHECK(alive == 1);  // one that has nothing to acknowledge is asked
  peer.say(fpdu({.tagged = true, .last = true, .opcode = 0}, {}, false));
  REQUIRE(loop.until([&] { return endpoint->traffic().fpdus_received == 1; }));
  std::vector<std::byte> memory(1'000'000);
  const fabric::Sge pieces[] = {sge(memory)};
  REQUIRE(endpoint->post_send(1, pieces));
  endpoint->ring();
  // It answers every probe of its window, and takes nothing.
  REQUIRE(loop.until([&] { return events.closed_calls > 0; }));
  CHECK(events.close.cause == fabric::CloseCause::peer_reset);
  CHECK(events.close.detail == "the connection broke: Connection timed out");
}

TEST_CASE("a READ that is not answered waits, whatever else the peer does") {
  Loop loop;
  EndpointPair pair(loop, {}, {});
  REQUIRE(pair.establish());
  std::vector<std::byte> source(2'000'000), sink(2'000'000), into(100);
  const auto at = pair.client->expose(source, fabric::Access::remote_read);
  REQUIRE(at.has_value());
  REQUIRE(pair.server->post_receive(1, sge(into)));
  REQUIRE(pair.server->post_read(2, sge(sink), *at));
  pair.server->ring();  // not heard yet, so the request waits
  CHECK(pair.server->progress().reading);
  CHECK(pair.server->progress().read == 0);
  CHECK_FALSE(pair.client->progress().reading);
  REQUIRE(pair.client->post_send(3, {}));
  pair.client->ring();
  REQUIRE(loop.until([&] { return pair.server_events.count(Op::rdma_read) == 1; }));
  CHECK_FALSE(pair.server->progress().reading);
  CHECK(pair.server->progress().read == sink.size() + 1);
  REQUIRE(loop.until([&] { return !pair.client->progress().sending; }));
  CHECK(pair.client->progress().acknowledged > source.size());
  CHECK(pair.client->progress().read == 0);
}

}  // namespace
}  // namespace smbdirect::test
