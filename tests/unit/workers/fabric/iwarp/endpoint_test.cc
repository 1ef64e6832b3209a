// SPDX-License-Identifier: MIT
// Pairs of endpoints over loopback TCP: what arrives is what was sent, whatever the sizes, the segments,
// the CRC, the revision and the buffers.
#include <algorithm>
#include <random>

#include <doctest/doctest.h>

#include "support.h"

namespace smbdirect::test {
namespace {

using fabric::Op;

struct Case {
  const char* name;
  iwarp::Options client, server;
  PairOptions sockets;
};

iwarp::Options options(bool crc, uint8_t revision = 2) {
  iwarp::Options out;
  out.want_crc = crc;
  out.mpa_revision = revision;
  return out;
}

const Case kCases[] = {
    {"CRC on both sides", options(true), options(true), {}},
    {"CRC off", options(false), options(false), {}},
    {"CRC wanted by the client", options(true), options(false), {}},
    {"CRC wanted by the server", options(false), options(true), {}},
    {"revision 1", options(true, 1), options(true), {}},
    {"Ethernet segments", options(true), options(true), {.segment = 1448}},
    {"smallest segments", options(true), options(true), {.segment = 120}},
    {"odd segments and tiny buffers",
     options(true),
     options(true),
     {.send_buffer = 1, .receive_buffer = 1, .segment = 537}},
    {"tiny buffers", options(false), options(false), {.send_buffer = 1, .receive_buffer = 1}},
};

TEST_CASE("sends, writes and reads of any size arrive intact and in order") {
  for (const Case& c : kCases) {
    CAPTURE(c.name);
    const uint64_t seed = 4711;
    CAPTURE(seed);
    std::mt19937_64 random(seed);
    Loop loop;
    EndpointPair pair(loop, c.client, c.server, c.sockets);
    REQUIRE(pair.establish());
    CHECK(pair.client->attributes().crc == (c.client.want_crc || c.server.want_crc));
    CHECK(pair.server->attributes().crc == pair.client->attributes().crc);

    const bool slow = c.sockets.send_buffer != 0 || c.sockets.segment == 120;
    const size_t most = slow ? 40'000 : 1'000'000;
    const int rounds = slow ? 10 : 25;
    // The client exposes two buffers and sends; the server reads one, writes the other, and answers.
    std::vector<std::byte> exposed_read = random_bytes(most, seed + 1);
    std::vector<std::byte> exposed_write(most), received(most), sink(most), answer(most);
    for (int round = 0; round < rounds; ++round) {
      CAPTURE(round);
      const auto length = [&] {
        const size_t classes[] = {0, 1, 3, 20, 1364, 4096, 65535, most};
        return static_cast<size_t>(random() % (std::min(classes[random() % std::size(classes)], most) + 1));
      };
      const size_t read_size = length(), write_size = length(), send_size = length();
      const auto readable =
          pair.client->expose(std::span(exposed_read).first(read_size), fabric::Access::remote_read);
      const auto writable =
          pair.client->expose(std::span(exposed_write).first(write_size), fabric::Access::remote_write);
      REQUIRE(readable.has_value());
      REQUIRE(writable.has_value());
      auto request = random_bytes(send_size, random());
      std::vector<fabric::Sge> pieces;
      for (size_t at = 0; at < request.size();) {
        const size_t part = pieces.size() == 15 ? request.size() - at : random() % (request.size() - at) + 1;
        pieces.push_back(sge(std::span(request).subspan(at, part)));
        at += part;
      }
      const size_t before = pair.client_events.done.size() + pair.server_events.done.size();
      REQUIRE(pair.server->post_receive(7, sge(std::span(received).first(send_size))));
      REQUIRE(pair.client->post_receive(8, sge(answer)));
      REQUIRE(pair.client->post_send(1, pieces));
      pair.client->ring();
      CHECK(pair.client_events.done.size() + pair.server_events.done.size() == before);  // only from the loop
      REQUIRE(loop.until(
          [&] { return pair.server_events.count(Op::receive) == static_cast<size_t>(round + 1); }));
      CHECK(pair.server_events.of(Op::receive).back().bytes == send_size);
      CHECK(std::equal(request.begin(), request.end(), received.begin()));

      auto written = random_bytes(write_size, random());
      const fabric::Sge whole[] = {sge(written)};
      REQUIRE(pair.server->post_read(2, sge(std::span(sink).first(read_size)), *readable));
      REQUIRE(pair.server->post_write(3, whole, *writable));
      const uint32_t token = writable->token;
      REQUIRE(pair.server->post_send(4, {}, &token));
      pair.server->ring();
      REQUIRE(loop.until([&] {
        return pair.client_events.count(Op::receive) == static_cast<size_t>(round + 1) &&
               pair.server_events.count(Op::rdma_read) == static_cast<size_t>(round + 1) &&
               pair.server_events.count(Op::send) == static_cast<size_t>(round + 1);
      }));
      const auto last = pair.client_events.of(Op::receive).back();
      CHECK(last.bytes == 0);
      CHECK(last.invalidated);
      CHECK(last.invalidated_token == writable->token);
      CHECK(std::equal(written.begin(), written.end(), exposed_write.begin()));
      CHECK(std::equal(sink.begin(), sink.begin() + static_cast<ptrdiff_t>(read_size), exposed_read.begin()));
      CHECK(pair.server_events.of(Op::rdma_read).back().bytes == read_size);
      pair.client->unexpose(readable->token);
      pair.client->unexpose(writable->token);
    }
    CHECK(pair.client->send_room() == c.client.max_send_work);
    CHECK(pair.server->send_room() == c.server.max_send_work);
    CHECK(pair.client->traffic().fpdus_sent == pair.server->traffic().fpdus_received);
    CHECK(pair.server->traffic().fpdus_sent == pair.client->traffic().fpdus_received);
    CHECK(pair.server->traffic().write_bytes == pair.client->traffic().peer_write_bytes);
    CHECK(pair.server->traffic().read_bytes == pair.client->traffic().peer_read_bytes);
    pair.client->disconnect();
    REQUIRE(
        loop.until([&] { return pair.client_events.closed_calls + pair.server_events.closed_calls == 2; }));
    CHECK(pair.client_events.close.cause == fabric::CloseCause::local);
    CHECK(pair.server_events.close.cause == fabric::CloseCause::peer_closed);
  }
}

}  // namespace
}  // namespace smbdirect::test
