// SPDX-License-Identifier: MIT
// The seam's rules over a device: data moves, completions come in order, limits hold, rights are as they
// must.
#include <algorithm>
#include <cstring>

#include <doctest/doctest.h>

#include "rig.h"

namespace smbdirect::test {
namespace {

constexpr size_t kHalf = 2U << 20U;

void fill(Rig& rig, size_t offset, size_t length, uint64_t seed) {
  std::ranges::copy(random_bytes(length, seed), rig.memory.begin() + static_cast<ptrdiff_t>(offset));
}

bool same(const Rig& rig, size_t a, size_t b, size_t length) {
  return std::memcmp(rig.memory.data() + a, rig.memory.data() + b, length) == 0;
}

TEST_CASE("messages, WRITEs and READs move data") {
  for (const bool iwarp : {false, true}) {
    CAPTURE(iwarp);
    Rig rig({.iwarp = iwarp});
    REQUIRE(rig.server->post_receive(11, rig.piece(kHalf, 100)));
    REQUIRE(rig.establish());
    CHECK(rig.server->description() ==
          (iwarp ? "verbs fake_iw0 here <- there" : "verbs fake0 here <- there"));
    fill(rig, 0, 100, 1);
    const fabric::Sge parts[] = {rig.piece(0, 60), rig.piece(60, 0), rig.piece(60, 40)};
    REQUIRE(rig.client->post_send(1, parts));
    rig.client->ring();
    REQUIRE(rig.until([&] { return rig.server_events.done.size() + rig.client_events.done.size() == 2; }));
    CHECK(same(rig, 0, kHalf, 100));
    CHECK(rig.server_events.done[0].id == 11);
    CHECK(rig.server_events.done[0].bytes == 100);
    CHECK_FALSE(rig.server_events.done[0].invalidated);
    CHECK(rig.client_events.done[0].id == 1);

    // The client lends memory; the server writes it, reads it and says so.
    std::vector<std::byte> target(5000), source = random_bytes(200'000, 2);
    const auto written = rig.client->expose(target, fabric::Access::remote_write);
    const auto read = rig.client->expose(source, fabric::Access::remote_read);
    REQUIRE(written);
    REQUIRE(read);
    REQUIRE(rig.client->post_receive(21, rig.piece(0, 100)));
    rig.client->ring();
    fill(rig, kHalf, 5000, 3);
    const fabric::Sge whole[] = {rig.piece(kHalf, 5000)};
    REQUIRE(rig.server->post_read(2, rig.piece(kHalf + 10'000, source.size()), *read));
    CHECK(rig.server->progress().reading);
    CHECK_FALSE(rig.server->progress().sending);
    REQUIRE(rig.server->post_write(3, whole, *written));
    REQUIRE(rig.server->post_send(4, {}));
    CHECK(rig.server->progress().sending);
    rig.server->ring();
    CHECK(rig.server->progress().acknowledged == 0);  // nothing has run
    REQUIRE(
        rig.until([&] { return rig.server_events.done.size() == 4 && rig.client_events.done.size() == 2; }));
    CHECK(std::memcmp(target.data(), rig.memory.data() + kHalf, target.size()) == 0);
    CHECK(std::memcmp(source.data(), rig.memory.data() + kHalf + 10'000, source.size()) == 0);
    CHECK(rig.server_events.of(Op::rdma_read)[0].bytes == source.size());
    const fabric::Traffic& traffic = rig.server->traffic();
    CHECK(traffic.sends == 1);
    CHECK(traffic.receives == 1);
    CHECK(traffic.writes == 1);
    CHECK(traffic.write_bytes == 5000);
    CHECK(traffic.reads == 1);
    CHECK(traffic.read_bytes == source.size());
    CHECK(traffic.copied_bytes == (iwarp ? source.size() : 0));
    const fabric::Progress after = rig.server->progress();
    CHECK_FALSE((after.reading || after.receiving || after.sending));
    CHECK(after.read == (iwarp ? 4 : 1));  // a sink's slot takes 64 KiB
    CHECK(after.received == 1 + after.read);
    CHECK(after.acknowledged == 2);
  }
}

TEST_CASE("what a peer may reach of ours") {
  SUBCASE("accepting, IB and RoCE: nothing, and connections share a domain") {
    Rig rig;
    REQUIRE(rig.server->post_receive(1, rig.piece(0, 100)));
    REQUIRE(rig.establish());
    CHECK(rig.server_qp().access == 0);
    CHECK(rig.fake.live_pds() == 2);  // the device's, and the connecting side's own
    CHECK(rig.server->expose(rig.memory, fabric::Access::remote_read).error() == PostError::closed);
    for (const auto& [size, access] : rig.fake.registrations) CHECK(access == IBV_ACCESS_LOCAL_WRITE);
  }
  SUBCASE("iWARP: a sink, never the arena") {
    Rig rig({.iwarp = true});
    REQUIRE(rig.server->post_receive(1, rig.piece(0, 100)));
    REQUIRE(rig.establish());
    CHECK(rig.server_qp().access == IBV_ACCESS_REMOTE_WRITE);
    CHECK(rig.fake.live_pds() == 2);  // one for each
    for (const auto& [size, access] : rig.fake.registrations) {
      const bool arena = size == rig.memory.size();
      CHECK(access == (arena ? IBV_ACCESS_LOCAL_WRITE : IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE));
      CHECK(size <= std::max<size_t>(rig.memory.size(), 16 * 65536));
    }
  }
  SUBCASE("connecting: what it exposed, until it is revoked") {
    Rig rig;
    REQUIRE(rig.establish());
    std::vector<std::byte> lent(100);
    const auto at = rig.client->expose(lent, fabric::Access::remote_write);
    REQUIRE(at);
    CHECK(rig.fake.registrations.back().second == (IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE));
    const fabric::Sge piece[] = {rig.piece(0, 100)};
    REQUIRE(rig.server->post_write(1, piece, *at));
    rig.server->ring();
    REQUIRE(rig.until([&] { return rig.server_events.done.size() == 1; }));
    const size_t registered = rig.fake.live_mrs();
    rig.client->unexpose(at->token);
    CHECK(rig.fake.live_mrs() == registered - 1);
    rig.client->unexpose(at->token);
    REQUIRE(rig.server->post_write(2, piece, *at));
    rig.server->ring();
    REQUIRE(rig.until([&] { return rig.both_closed(); }));
    CHECK(rig.server_events.close.cause == CloseCause::peer_terminate);
    CHECK(rig.server_events.close.detail.find("remote access error") != std::string::npos);
    CHECK(rig.server_events.done.size() == 1);
  }
}

TEST_CASE("limits on READs: the least of options, device and peer; others wait, but nothing waits for them") {
  RigOptions options;
  options.server.max_outbound_reads = 8;
  for (const uint8_t peer : {uint8_t{0}, uint8_t{3}, uint8_t{100}}) {
    CAPTURE(peer);
    Rig rig(options);
    rig.cm.from_client.initiator_depth = peer;
    rig.fake.attributes.max_qp_init_rd_atom = 6;
    rig.fake.hold_reads = true;
    REQUIRE(rig.establish());
    const size_t most = peer == 3 ? 3 : 6;
    CHECK(rig.server->attributes().max_outbound_reads == most);
    CHECK(rig.cm.accepting().limits.initiator_depth == most);
    CHECK(rig.cm.accepting().limits.responder_resources == 0);
    std::vector<std::byte> source(64);
    const auto at = rig.client->expose(source, fabric::Access::remote_read);
    REQUIRE(rig.client->post_receive(1, rig.piece(0, 10)));
    rig.client->ring();
    for (uint64_t i = 0; i < 20; ++i) REQUIRE(rig.server->post_read(i, rig.piece(kHalf + i * 64, 64), *at));
    REQUIRE(rig.server->post_send(100, {}));
    rig.server->ring();
    rig.fake.sends_pass_reads = true;
    REQUIRE(rig.until([&] { return rig.client_events.done.size() == 1; }));
    rig.settle();
    CHECK(rig.server_events.count(Op::send) == 1);
    // A device that reports a later SEND first must not be taken to say that the READs are done.
    CHECK(rig.server_events.count(Op::rdma_read) == 0);
    CHECK(rig.fake.most_reads == most);
    for (size_t i = 0; i < 20; ++i) {
      rig.fake.finish_read(rig.server_qp());
      REQUIRE(rig.until([&] { return rig.server_events.count(Op::rdma_read) == i + 1; }));
      CHECK(rig.server_events.of(Op::rdma_read)[i].id == i);
    }
    CHECK(rig.fake.most_reads == most);
  }
}

TEST_CASE("iWARP: a long READ comes through the sink in parts, and completes with the last") {
  RigOptions options;
  options.iwarp = true;
  options.server.max_outbound_reads = 4;
  Rig rig(options);
  rig.fake.hold_reads = true;
  REQUIRE(rig.establish());
  const std::vector<std::byte> source = random_bytes(10 * 65536 + 17, 5);
  auto lent = source;
  const auto at = rig.client->expose(lent, fabric::Access::remote_read);
  REQUIRE(rig.server->post_read(1, rig.piece(kHalf, source.size()), *at));
  REQUIRE(rig.server->post_read(2, rig.piece(0, 0), *at));
  REQUIRE(rig.server->post_read(3, rig.piece(0, 5), *at));
  rig.server->ring();
  rig.settle();
  for (int part = 0; part < 13; ++part) {
    CHECK(rig.server_events.count(Op::rdma_read) == static_cast<size_t>(std::max(0, part - 10)));
    CHECK(rig.fake.most_reads <= 4);
    REQUIRE_FALSE(rig.server_qp().reads.empty());
    rig.fake.finish_read(rig.server_qp());
    rig.settle();
  }
  REQUIRE(rig.server_events.count(Op::rdma_read) == 3);
  CHECK(std::memcmp(source.data(), rig.memory.data() + kHalf, source.size()) == 0);
  CHECK(rig.server->traffic().copied_bytes == source.size() + 5);
}

TEST_CASE("one chain for each ring, most of it unsignalled, completed in order") {
  Rig rig;
  REQUIRE(rig.establish());
  for (uint64_t i = 0; i < 100; ++i) REQUIRE(rig.client->post_receive(i, rig.piece(i * 64, 64)));
  rig.client->ring();
  rig.fake.sent.clear();
  rig.fake.chains.clear();
  for (uint64_t i = 0; i < 50; ++i) {
    const fabric::Sge piece[] = {rig.piece(kHalf, i)};
    REQUIRE(rig.server->post_send(i, piece));
  }
  CHECK(rig.fake.sent.empty());
  rig.server->ring();
  rig.server->ring();
  CHECK(rig.fake.chains == std::vector<size_t>{50});
  REQUIRE(rig.until([&] { return rig.server_events.done.size() == 50; }));
  const auto signalled = std::ranges::count_if(
      rig.fake.sent, [](const auto& wr) { return (wr.send_flags & IBV_SEND_SIGNALED) != 0; });
  CHECK(signalled == 2);
  for (uint64_t i = 0; i < 50; ++i) {
    CHECK(rig.server_events.done[i].id == i);
    CHECK(rig.client_events.done[i].id == i);
    CHECK(rig.client_events.done[i].bytes == i);
    CHECK(((rig.fake.sent[i].send_flags & IBV_SEND_INLINE) != 0) == (i <= verbs::kInlineBytes));
  }
  CHECK(rig.server_events.calls == 1);  // one batch
  CHECK(rig.client_events.calls == 1);
}

TEST_CASE("a SEND with invalidate names the token twice, and the receiver learns of it") {
  Rig rig;
  REQUIRE(rig.client->post_receive(1, rig.piece(0, 100)));
  REQUIRE(rig.establish());
  std::vector<std::byte> lent(100);
  const auto at = rig.client->expose(lent, fabric::Access::remote_write);
  const size_t registered = rig.fake.live_mrs();
  REQUIRE(rig.server->post_send(1, {}, &at->token));
  rig.server->ring();
  REQUIRE(rig.until([&] { return rig.client_events.done.size() == 1; }));
  const ibv_send_wr& wr = rig.fake.sent.back();
  CHECK(wr.opcode == IBV_WR_SEND_WITH_INV);
  CHECK(wr.invalidate_rkey == at->token);
  CHECK((wr.send_flags & IBV_SEND_INLINE) == 0);  // siw refuses that
  CHECK(wr.wr.rdma.rkey == at->token);
  CHECK(rig.client_events.done[0].invalidated);
  CHECK(rig.client_events.done[0].invalidated_token == at->token);
  CHECK(rig.fake.live_mrs() == registered - 1);
  rig.client->unexpose(at->token);  // harmless
  CHECK_FALSE(rig.client->attributes().can_be_invalidated);
}

TEST_CASE("a receive that comes before the connection manager's word establishes the connection") {
  Rig rig;
  rig.cm.hold_established = true;
  REQUIRE(rig.server->post_receive(1, rig.piece(kHalf, 100)));
  rig.client->start();
  REQUIRE(rig.until([&] { return rig.cm.connecting().answered; }));
  rig.server->start();
  REQUIRE(rig.until([&] { return rig.client_events.established; }));
  rig.settle();
  CHECK_FALSE(rig.server_events.established);
  CHECK(rig.server->send_room() == 0);
  CHECK(rig.server->post_send(1, {}).error() == PostError::queue_full);
  REQUIRE(rig.client->post_send(1, {}));
  rig.client->ring();
  REQUIRE(rig.until([&] { return rig.server_events.done.size() == 1; }));
  CHECK(rig.server_events.established);
  // Its word comes late, and changes nothing (the recorder would complain).
  rig.cm.tell(rig.cm.accepting(), [](CmLink::Observer& o) { o.on_established(); });
  rig.settle();
  CHECK(rig.server->send_room() > 0);
}

TEST_CASE("queues are bounded, and places are free once completions are delivered") {
  RigOptions options;
  options.server.max_send_work = 4;
  options.server.max_outbound_reads = 2;
  options.client.max_receive_work = 3;
  Rig rig(options);
  for (uint64_t i = 0; i < 3; ++i) REQUIRE(rig.client->post_receive(i, rig.piece(0, 10)));
  CHECK(rig.client->post_receive(9, rig.piece(0, 10)).error() == PostError::queue_full);
  REQUIRE(rig.establish());
  const fabric::Sge foreign[] = {{.addr = rig.memory.data(), .length = 1, .key = 0}};
  CHECK(rig.server->post_send(1, foreign).error() == PostError::not_registered);
  CHECK(rig.server->post_receive(1, foreign[0]).error() == PostError::not_registered);
  CHECK(rig.server->attributes().max_send_sge == 6);
  const std::vector<fabric::Sge> many(7, rig.piece(0, 1));
  CHECK(rig.server->post_send(1, many).error() == PostError::too_many_sges);
  CHECK(rig.server->send_room() == 4);
  rig.fake.hold_sends = true;
  std::vector<std::byte> source(10);
  const auto at = rig.client->expose(source, fabric::Access::remote_read);
  for (uint64_t i = 0; i < 3; ++i) REQUIRE(rig.server->post_read(i, rig.piece(0, 10), *at));
  REQUIRE(rig.server->post_send(3, {}));
  rig.server->ring();
  CHECK(rig.server->send_room() == 0);
  CHECK(rig.server->post_send(4, {}).error() == PostError::queue_full);
  CHECK(rig.server->post_read(4, rig.piece(0, 10), *at).error() == PostError::queue_full);
  rig.server_events.when_done = [&](const auto&) { CHECK(rig.server->send_room() > 0); };
  rig.fake.hold_sends = false;
  REQUIRE(rig.until([&] { return rig.server_events.done.size() == 4; }));
  CHECK(rig.server->send_room() == 4);
}

TEST_CASE("a device smaller than the options") {
  Rig rig;
  rig.fake.attributes.max_qp_wr = 64;
  rig.fake.attributes.max_sge = 2;
  rig.fake.attributes.max_qp_init_rd_atom = 100;
  rig.cm.from_client.initiator_depth = 0;
  for (uint64_t i = 0; i < 64; ++i) REQUIRE(rig.server->post_receive(i, rig.piece(0, 10)));
  REQUIRE(rig.establish());
  const fabric::Attributes& attributes = rig.server->attributes();
  CHECK(attributes.max_send_work == 32);
  CHECK(attributes.max_receive_work == 64);
  CHECK(attributes.max_send_sge == 2);
  CHECK(attributes.max_outbound_reads == 32);
  CHECK(rig.server->post_receive(1, rig.piece(0, 10)).error() == PostError::queue_full);
}

TEST_CASE("receives the device has no room for are a failure of set-up") {
  Rig rig;
  rig.fake.attributes.max_qp_wr = 64;
  for (uint64_t i = 0; i < 65; ++i) REQUIRE(rig.server->post_receive(i, rig.piece(0, 10)));
  CHECK_FALSE(rig.establish());
  CHECK(rig.server_events.close.cause == CloseCause::setup_failed);
}

TEST_CASE("random traffic in both directions") {
  for (const bool iwarp : {false, true}) {
    for (uint64_t seed = 1; seed <= 20; ++seed) {
      CAPTURE(seed);
      RigOptions options;
      options.iwarp = iwarp;
      options.server.max_send_work = 16;
      options.server.max_outbound_reads = 4;
      Rig rig(options);
      REQUIRE(rig.establish());
      std::vector<std::byte> lent = random_bytes(300'000, seed);
      const auto at = rig.client->expose(lent, fabric::Access::remote_read);
      const auto bytes = random_bytes(4000, seed + 100);
      uint64_t reads = 0, sends = 0;
      for (size_t i = 0; i + 3 < bytes.size(); i += 4) {
        const auto what = std::to_integer<unsigned>(bytes[i]) % 4;
        const size_t length = std::to_integer<size_t>(bytes[i + 1]) * 997;
        if (what == 0 && rig.server->send_room() > 0) {
          REQUIRE(rig.server->post_read(reads++, rig.piece(kHalf, length), *at));
        } else if (what == 1 && rig.server->send_room() > 0) {
          REQUIRE(rig.client->post_receive(sends, rig.piece(0, 1000)));
          rig.client->ring();
          const fabric::Sge piece[] = {rig.piece(1000, length % 1000)};
          REQUIRE(rig.server->post_send(sends++, piece));
        } else if (what == 2) {
          rig.server->ring();
        } else {
          rig.settle(1);
        }
      }
      rig.server->ring();
      REQUIRE(rig.until([&] { return rig.server_events.done.size() == reads + sends; }));
      for (const Op op : {Op::send, Op::rdma_read}) {
        const auto list = rig.server_events.of(op);
        for (uint64_t i = 0; i < list.size(); ++i) CHECK(list[i].id == i);
      }
      CHECK(rig.fake.most_reads <= 4);
    }
  }
}

TEST_CASE("the device is not asked for more events than there can be") {
  Rig rig;
  for (uint64_t i = 0; i < 8; ++i) REQUIRE(rig.client->post_receive(i, rig.piece(0, 100)));
  REQUIRE(rig.establish());
  const auto& stats = rig.table->devices()[0]->stats();
  const uint64_t wakes = stats.wakes;
  for (size_t i = 0; i < 8; ++i) {
    REQUIRE(rig.server->post_send(i, {}));
    rig.server->ring();
    REQUIRE(rig.until([&] { return rig.client_events.done.size() == i + 1; }));
    rig.settle();
  }
  CHECK(stats.wakes >= wakes + 8);
  CHECK(rig.fake.no_events == 0);
}

}  // namespace
}  // namespace smbdirect::test
