// SPDX-License-Identifier: MIT
// Endings: on_closed() once, whatever the cause and the moment; work is waited for; nothing of the caller's
// is touched afterwards, and nothing is left.
#include <algorithm>

#include <doctest/doctest.h>

#include "rig.h"

namespace smbdirect::test {
namespace {

constexpr size_t kHalf = 2U << 20U;

TEST_CASE("disconnect sends what was posted, READs included, and hears the peer's answer") {
  Rig rig;
  for (uint64_t i = 0; i < 8; ++i) REQUIRE(rig.client->post_receive(i, rig.piece(0, 100)));
  REQUIRE(rig.establish());
  std::vector<std::byte> lent(1000);
  const auto at = rig.client->expose(lent, fabric::Access::remote_read);
  rig.fake.hold_reads = true;
  for (uint64_t i = 0; i < 3; ++i) REQUIRE(rig.server->post_send(i, {}));
  REQUIRE(rig.server->post_read(7, rig.piece(kHalf, 1000), *at));
  rig.server->disconnect();
  rig.server->disconnect();
  CHECK(rig.server->post_send(9, {}).error() == PostError::closed);
  CHECK(rig.server->post_receive(9, rig.piece(0, 1)).error() == PostError::closed);
  CHECK(rig.server->send_room() == 0);
  REQUIRE(rig.until([&] { return rig.client_events.done.size() == 3; }));
  CHECK(rig.client_events.closed_calls == 0);
  rig.fake.finish_read(rig.server_qp());
  REQUIRE(rig.until([&] { return rig.both_closed(); }));
  CHECK(rig.server_events.done.size() == 4);
  CHECK(rig.server_events.close.cause == CloseCause::local);
  CHECK(rig.client_events.close.cause == CloseCause::peer_closed);
  rig.settle();
  CHECK(rig.server_events.closed_calls == 1);
  CHECK(rig.client->post_write(1, {}, {}).error() == PostError::closed);
  CHECK(rig.client->post_read(1, {}, {}).error() == PostError::closed);
  CHECK(rig.client->expose(lent, fabric::Access::remote_read).error() == PostError::closed);
  CHECK(rig.fake.live_qps() == 0);  // with the endpoints still there
  for (auto* endpoint : {rig.client.get(), rig.server.get()}) {
    endpoint->abort();
    endpoint->disconnect();
    endpoint->ring();
    endpoint->unexpose(at->token);
  }
  rig.settle();
}

TEST_CASE("disconnect is bounded: a peer that takes nothing, and one that does not answer") {
  for (const bool takes_nothing : {true, false}) {
    CAPTURE(takes_nothing);
    Rig rig;
    for (uint64_t i = 0; i < 8; ++i) REQUIRE(rig.client->post_receive(i, rig.piece(0, 100)));
    REQUIRE(rig.establish());
    rig.fake.hold_sends = takes_nothing;
    rig.cm.answers_disconnect = false;
    REQUIRE(rig.server->post_send(1, {}));
    rig.server->disconnect();
    rig.settle();
    CHECK(rig.server_events.closed_calls == 0);
    REQUIRE(rig.until([&] { return rig.both_closed(); }));
    CHECK(rig.server_events.close.cause == CloseCause::local);
    CHECK(rig.client_events.done.size() == (takes_nothing ? 0 : 1));
    CHECK(rig.client_events.close.cause == CloseCause::peer_closed);
  }
}

TEST_CASE("what arrived before the peer closed is delivered first") {
  Rig rig;
  for (uint64_t i = 0; i < 8; ++i) REQUIRE(rig.client->post_receive(i, rig.piece(0, 100)));
  REQUIRE(rig.establish());
  for (uint64_t i = 0; i < 5; ++i) REQUIRE(rig.server->post_send(i, {}));
  rig.server->ring();
  // It moves, but the loop does not turn before the connection manager tells of the end.
  rig.fake.run();
  rig.cm.tell(rig.cm.connecting(), [](CmLink::Observer& o) { o.on_disconnected(); });
  rig.cm.run();
  REQUIRE(rig.until([&] { return rig.client_events.closed_calls == 1; }));
  CHECK(rig.client_events.done.size() == 5);
  CHECK(rig.client_events.close.cause == CloseCause::peer_closed);
}

TEST_CASE("abort ends both sides, delivers nothing more, and tells from the loop only") {
  Rig rig;
  for (uint64_t i = 0; i < 8; ++i) REQUIRE(rig.client->post_receive(i, rig.piece(0, 100)));
  REQUIRE(rig.establish());
  REQUIRE(rig.server->post_send(1, {}));
  rig.server->ring();
  rig.fake.run();
  rig.client->abort();
  rig.client->abort();
  rig.client->disconnect();
  CHECK(rig.client_events.closed_calls == 0);
  CHECK(rig.client_qp().state == IBV_QPS_ERR);
  REQUIRE(rig.until([&] { return rig.both_closed(); }));
  CHECK(rig.client_events.done.empty());
  CHECK(rig.client_events.close.cause == CloseCause::local);
  CHECK(rig.server_events.close.cause == CloseCause::peer_closed);
}

TEST_CASE("an end during set-up") {
  for (const bool hard : {false, true}) {
    for (int turns = 0; turns < 4; ++turns) {
      CAPTURE(turns);
      Rig rig;
      REQUIRE(rig.client->post_receive(0, rig.piece(0, 100)));
      rig.client->start();
      for (int i = 0; i < turns; ++i) rig.cm.run();
      hard ? rig.client->abort() : rig.client->disconnect();
      CHECK(rig.client_events.closed_calls == 0);
      REQUIRE(rig.until([&] { return rig.client_events.closed_calls == 1; }));
      CHECK(rig.client_events.close.cause == CloseCause::local);
      CHECK_FALSE(rig.client_events.established);
    }
  }
}

TEST_CASE("set-up is bounded in time, and a refusal is reported") {
  RigOptions options;
  options.client.handshake_timeout_ms = 20;
  Rig rig(options);
  rig.client->start();
  REQUIRE(rig.until([&] { return rig.client_events.closed_calls == 1; }));
  CHECK(rig.client_events.close.cause == CloseCause::setup_failed);
  CHECK(rig.client_events.close.detail == "no RDMA connection in time");

  Rig refused;
  refused.client->start();
  REQUIRE(refused.until([&] { return refused.cm.connecting().answered; }));
  refused.server.reset();
  REQUIRE(refused.until([&] { return refused.client_events.closed_calls == 1; }));
  CHECK(refused.client_events.close.detail == "refused");
}

TEST_CASE("the first error that says something decides the cause") {
  struct Sample {
    ibv_wc_status status;
    CloseCause cause;
  };
  for (const Sample& sample : {Sample{IBV_WC_REM_ACCESS_ERR, CloseCause::peer_terminate},
                               {IBV_WC_REM_INV_REQ_ERR, CloseCause::peer_terminate},
                               {IBV_WC_REM_OP_ERR, CloseCause::peer_terminate},
                               {IBV_WC_RETRY_EXC_ERR, CloseCause::peer_reset},
                               {IBV_WC_RNR_RETRY_EXC_ERR, CloseCause::peer_reset},
                               {IBV_WC_LOC_PROT_ERR, CloseCause::protocol_error},
                               {IBV_WC_GENERAL_ERR, CloseCause::protocol_error}}) {
    for (const bool flushed_first : {false, true}) {
      CAPTURE(ibv_wc_status_str(sample.status));
      CAPTURE(flushed_first);
      Rig rig;
      for (uint64_t i = 0; i < 4; ++i) REQUIRE(rig.server->post_receive(i, rig.piece(0, 100)));
      REQUIRE(rig.establish());
      rig.fake.hold_sends = true;
      REQUIRE(rig.server->post_send(1, {}));
      rig.server->ring();
      FakeVerbs::Qp& qp = rig.server_qp();
      const uint64_t wr_id = qp.sends.front().wr.wr_id;
      qp.sends.clear();
      rig.fake.break_queue_pair(qp);
      if (flushed_first) rig.fake.run();
      rig.fake.complete(qp, wr_id, sample.status);
      REQUIRE(rig.until([&] { return rig.both_closed(); }));
      CHECK(rig.server_events.close.cause == sample.cause);
      CHECK(rig.server_events.close.detail.find(ibv_wc_status_str(sample.status)) != std::string::npos);
    }
  }
}

TEST_CASE("a message longer than the receive is the sender's error") {
  Rig rig;
  REQUIRE(rig.client->post_receive(0, rig.piece(0, 10)));
  REQUIRE(rig.establish());
  const fabric::Sge piece[] = {rig.piece(kHalf, 11)};
  REQUIRE(rig.server->post_send(1, piece));
  rig.server->ring();
  REQUIRE(rig.until([&] { return rig.both_closed(); }));
  CHECK(rig.client_events.close.cause == CloseCause::protocol_error);
  CHECK(rig.server_events.close.cause == CloseCause::peer_terminate);
}

TEST_CASE("work is flushed before anybody says why: the connection manager has the last word") {
  for (const bool says : {true, false}) {
    Rig rig;
    for (uint64_t i = 0; i < 4; ++i) REQUIRE(rig.server->post_receive(i, rig.piece(0, 100)));
    REQUIRE(rig.establish());
    rig.fake.break_queue_pair(rig.server_qp());
    rig.settle();
    CHECK(rig.server_events.closed_calls == 0);
    if (says) rig.cm.tell(rig.cm.accepting(), [](CmLink::Observer& o) { o.on_disconnected(); });
    REQUIRE(rig.until([&] { return rig.both_closed(); }));
    CHECK(rig.server_events.close.cause == (says ? CloseCause::peer_closed : CloseCause::peer_reset));
  }
}

TEST_CASE("receives are flushed during set-up: the connection manager's reason is waited for, not for long") {
  for (const bool says : {true, false}) {
    Rig rig;
    rig.cm.hold_established = true;
    for (uint64_t i = 0; i < 4; ++i) REQUIRE(rig.server->post_receive(i, rig.piece(0, 100)));
    rig.client->start();
    REQUIRE(rig.until([&] { return rig.cm.connecting().answered; }));
    rig.server->start();
    REQUIRE(rig.until([&] { return rig.cm.accepting().answered; }));
    rig.fake.break_queue_pair(rig.server_qp());
    rig.settle();
    CHECK(rig.server_events.closed_calls == 0);
    if (says) {
      rig.cm.tell(rig.cm.accepting(),
                  [](CmLink::Observer& o) { o.on_failed(CloseCause::setup_failed, "because"); });
    }
    REQUIRE(rig.until([&] { return rig.server_events.closed_calls > 0; }));
    CHECK_FALSE(rig.server_events.established);
    CHECK(rig.server_events.close.cause == CloseCause::setup_failed);
    CHECK(rig.server_events.close.detail == (says ? "because" : "the connection broke during set-up"));
  }
}

TEST_CASE("work that never comes back: the queue pair is destroyed by force") {
  Rig rig;
  for (uint64_t i = 0; i < 4; ++i) REQUIRE(rig.server->post_receive(i, rig.piece(0, 100)));
  REQUIRE(rig.establish());
  rig.fake.flush = false;
  FakeVerbs::Qp& qp = rig.server_qp();
  const uint64_t late = qp.receives.front().wr_id;
  FakeVerbs::Cq& cq = *qp.cq;
  rig.server->abort();
  rig.settle();
  CHECK(rig.server_events.closed_calls == 0);
  REQUIRE(rig.until([&] { return rig.both_closed(); }));
  CHECK(rig.table->devices()[0]->stats().forced == 1);
  // And comes after all, to a completion queue that others use.
  ibv_wc wc{};
  wc.wr_id = late;
  rig.fake.push(cq, wc);
  rig.settle();
  CHECK(rig.table->devices()[0]->stats().stale == 1);
  CHECK(rig.server_events.done.empty());
}

TEST_CASE("only what was signalled is flushed: enough to know that all is back") {
  Rig rig;
  rig.fake.flush_unsignalled = false;
  REQUIRE(rig.establish());
  rig.fake.hold_sends = true;
  for (uint64_t i = 0; i < 40; ++i) REQUIRE(rig.server->post_send(i, {}));
  rig.server->ring();
  rig.server->abort();
  REQUIRE(rig.until([&] { return rig.both_closed(); }));
  CHECK(rig.table->devices()[0]->stats().forced == 0);
}

TEST_CASE("a device that completes what was not posted, or out of turn, is not believed") {
  for (const int kind : {0, 1, 2}) {
    CAPTURE(kind);
    Rig rig;
    for (uint64_t i = 0; i < 4; ++i) REQUIRE(rig.server->post_receive(i, rig.piece(0, 100)));
    REQUIRE(rig.establish());
    verbs::WorkId id = verbs::WorkId::unpack(rig.server_qp().receives[1].wr_id);
    if (kind == 1) id.kind = verbs::WorkKind::message;
    if (kind == 2) id.kind = verbs::WorkKind::read;
    rig.fake.complete(rig.server_qp(), id.pack(), IBV_WC_SUCCESS, 10);
    REQUIRE(rig.until([&] { return rig.both_closed(); }));
    CHECK(rig.server_events.close.cause == CloseCause::protocol_error);
    CHECK(rig.server_events.done.empty());
  }
}

TEST_CASE("an endpoint may be destroyed at any moment") {
  for (const bool iwarp : {false, true}) {
    for (int moment = 0; moment < 12; ++moment) {
      CAPTURE(moment);
      Rig rig({.iwarp = iwarp});
      for (uint64_t i = 0; i < 8; ++i) REQUIRE(rig.server->post_receive(i, rig.piece(0, 100)));
      for (uint64_t i = 0; i < 8; ++i) REQUIRE(rig.client->post_receive(i, rig.piece(0, 100)));
      std::vector<std::byte> lent(100);
      if (moment >= 1) rig.client->start();
      if (moment >= 2) rig.settle(moment - 1);
      if (moment >= 4) {
        rig.server->start();
        REQUIRE(rig.until([&] { return rig.server_events.established && rig.client_events.established; }));
        const auto at = rig.client->expose(lent, fabric::Access::remote_read);
        REQUIRE(rig.server->post_read(1, rig.piece(kHalf, 100), *at));
        REQUIRE(rig.server->post_send(2, {}));
      }
      if (moment == 5) rig.fake.hold_reads = true;
      if (moment >= 5) rig.server->ring();
      if (moment >= 6) rig.fake.run();
      if (moment == 7) rig.server->disconnect();
      if (moment == 8) rig.server->abort();
      if (moment >= 9) rig.settle(moment - 8);
      if (moment == 10) rig.client->disconnect();
      if (moment == 11) rig.client->abort();
      const int told = rig.server_events.closed_calls;
      const size_t done = rig.server_events.done.size();
      rig.server.reset();
      CHECK(rig.server_events.done.size() == done);
      rig.settle();
      CHECK(rig.server_events.closed_calls == told);
      CHECK(rig.server_events.done.size() == done);
      if (moment >= 4) CHECK(rig.until([&] { return rig.client_events.closed_calls == 1; }));
    }
  }
}

TEST_CASE("objects go in a sound order") {
  for (const bool iwarp : {false, true}) {
    Rig rig({.iwarp = iwarp});
    REQUIRE(rig.server->post_receive(1, rig.piece(0, 100)));
    REQUIRE(rig.establish());
    rig.fake.destroyed.clear();
    rig.server.reset();
    const std::vector<std::string> alone = {"qp", "link"};
    const std::vector<std::string> own_domain = {"qp", "mr", "mr", "pd", "link"};
    CHECK(rig.fake.destroyed == (iwarp ? own_domain : alone));
    rig.client.reset();
    rig.fake.destroyed.clear();
    rig.table.reset();
    const std::vector<std::string> device = {"cq", "channel", "context"};
    const std::vector<std::string> shared_device = {"cq", "channel", "mr", "pd", "context"};
    CHECK(rig.fake.destroyed == (iwarp ? device : shared_device));
  }
}

TEST_CASE("the handler may do all but destroy from its callbacks") {
  Rig rig;
  int left = 300;
  REQUIRE(rig.server->post_receive(0, rig.piece(0, 64)));
  REQUIRE(rig.client->post_receive(0, rig.piece(kHalf, 64)));
  const auto again = [&](fabric::Endpoint& endpoint, const fabric::Completion& completion) {
    if (completion.op != Op::receive) return;
    if (--left <= 0) return endpoint.disconnect();
    REQUIRE(endpoint.post_receive(1, rig.piece(0, 64)));
    REQUIRE(endpoint.post_send(1, {}));
    endpoint.ring();
    endpoint.ring();
  };
  rig.server_events.when_done = [&](const auto& c) { again(*rig.server, c); };
  rig.client_events.when_done = [&](const auto& c) { again(*rig.client, c); };
  rig.client_events.when_established = [&] {
    REQUIRE(rig.client->post_send(1, {}));
    rig.client->ring();
  };
  rig.establish();
  REQUIRE(rig.until([&] { return rig.both_closed(); }));
  CHECK(left == 0);
}

// Every call, one after the other, fails once, in a life that makes them all.
TEST_CASE("whatever call fails, both sides end once and nothing is left") {
  for (const bool iwarp : {false, true}) {
    int never = 0;
    for (int n = 1; never < 3 && n < 500; ++n) {
      Rig rig({.iwarp = iwarp});
      rig.fake.fail_call(n);
      for (uint64_t i = 0; i < 4; ++i) REQUIRE(rig.server->post_receive(i, rig.piece(0, 100)));
      for (uint64_t i = 0; i < 4; ++i) REQUIRE(rig.client->post_receive(i, rig.piece(kHalf, 100)));
      std::vector<std::byte> lent(100'000);
      if (rig.establish()) {
        const auto at = rig.client->expose(lent, fabric::Access::remote_read);
        if (at) {
          for (uint64_t i = 0; i < 3; ++i) (void)rig.server->post_read(i, rig.piece(kHalf, 100'000), *at);
        }
        (void)rig.server->post_send(9, {});
        (void)rig.client->post_send(9, {});
        rig.server->ring();
        rig.client->ring();
        rig.settle(5);
        rig.server->disconnect();
      }
      CAPTURE(n);
      CAPTURE(rig.fake.last_failed);
      // A side whose peer never got to answer waits for nobody: it is told to stop.
      rig.until([&] { return rig.both_closed(); }, 60);
      if (rig.server_events.closed_calls == 0) rig.server->abort();
      if (rig.client_events.closed_calls == 0) rig.client->abort();
      REQUIRE(rig.until([&] { return rig.both_closed(); }));
      rig.settle();
      CHECK(rig.server_events.closed_calls == 1);
      CHECK(rig.client_events.closed_calls == 1);
      if (rig.fake.last_failed.empty()) ++never;
    }
    CHECK(never == 3);
  }
}

}  // namespace
}  // namespace smbdirect::test
