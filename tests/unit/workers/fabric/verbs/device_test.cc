// SPDX-License-Identifier: MIT
// Devices: opened at first use, refused when they cannot do what is needed, closed when idle or removed;
// their completion queues and asynchronous events.
#include <algorithm>
#include <memory>

#include <doctest/doctest.h>

#include "rig.h"

namespace smbdirect::test {
namespace {

TEST_CASE("a device is opened by the first connection and closed when it has been idle") {
  RigOptions options;
  options.server.device_idle_ms = options.client.device_idle_ms = 500;
  Rig rig(options);
  CHECK(rig.fake.live_contexts() == 0);
  REQUIRE(rig.establish());
  CHECK(rig.fake.live_contexts() == 1);
  rig.client->disconnect();
  REQUIRE(rig.until([&] { return rig.both_closed(); }));
  CHECK(rig.fake.live_contexts() == 1);  // the endpoints are still there, but their seats are free
  REQUIRE(rig.until([&] { return rig.fake.live_contexts() == 0; }));
  CHECK(rig.table->devices_open() == 0);
  CHECK(rig.fake.live() == 0);
}

TEST_CASE("a device without remote invalidation is refused, and the message says why") {
  Rig rig;
  rig.fake.attributes.device_cap_flags = 0;
  rig.client->start();
  REQUIRE(rig.until([&] { return rig.client_events.closed_calls == 1; }));
  CHECK(rig.client_events.close.cause == CloseCause::setup_failed);
  CHECK(rig.client_events.close.detail.find("send with invalidate") != std::string::npos);
  CHECK(rig.fake.live() == 0);
}

TEST_CASE("a device nobody has heard of") {
  Rig rig;
  rig.cm.device.node_guid = 1;
  rig.client->start();
  REQUIRE(rig.until([&] { return rig.client_events.closed_calls == 1; }));
  CHECK(rig.client_events.close.detail.find("no RDMA device has the node GUID 0100:0000:0000:0000") == 0);
}

TEST_CASE("a removed device ends its connections, and is closed at once") {
  enum class Told : uint8_t { by_connection_manager, by_device, by_nobody };
  for (const Told told : {Told::by_connection_manager, Told::by_device, Told::by_nobody}) {
    const bool fatal = told == Told::by_device;
    CAPTURE(static_cast<int>(told));
    Rig rig;
    for (uint64_t i = 0; i < 4; ++i) REQUIRE(rig.server->post_receive(i, rig.piece(0, 100)));
    REQUIRE(rig.establish());
    REQUIRE(rig.server->post_send(1, {}));
    rig.server->ring();
    rig.fake.hold_sends = true;
    rig.fake.flush = false;  // its work does not come back
    if (fatal) {
      ibv_async_event event{};
      event.event_type = IBV_EVENT_DEVICE_FATAL;
      rig.fake.raise(event);
    } else if (told == Told::by_connection_manager) {
      rig.cm.tell(rig.cm.accepting(), [](CmLink::Observer& o) { o.on_device_removed(); });
    } else {
      rig.fake.present = false;
    }
    REQUIRE(rig.until([&] { return rig.both_closed(); }));
    for (const Recorder* events : {&rig.server_events, &rig.client_events}) {
      CHECK(events->close.cause == CloseCause::peer_reset);
      if (!fatal) CHECK(events->close.detail == "the RDMA device was removed");
      if (fatal) CHECK(events->close.detail.find("the RDMA device failed: ") == 0);
    }
    REQUIRE(rig.until([&] { return rig.table->devices_open() == 0; }));
    CHECK(rig.fake.live() == 0);  // so that the device can be deleted
    CHECK(std::ranges::count(rig.fake.destroyed, "link") == 2);
    rig.cm.run();
  }
}

/// In which way a removal is heard of first.
enum class Sign : uint8_t {
  no_channel,          // the completion channel is closed under us
  no_async,            // the asynchronous events' file is
  fatal_event,         // the device is said to have failed
  posting_fails,       // a work request is refused
  peer_closes,         // or the peer seems to have closed
  peer_closes_and_cm,  // ...and only then the connection manager tells of the removal
};

TEST_CASE("a removal is the reason, whatever is heard of first") {
  using enum Sign;
  for (const bool iwarp : {false, true}) {
    for (const Sign sign :
         {no_channel, no_async, fatal_event, posting_fails, peer_closes, peer_closes_and_cm}) {
      CAPTURE(iwarp);
      CAPTURE(static_cast<int>(sign));
      Rig rig({.iwarp = iwarp});
      for (uint64_t i = 0; i < 4; ++i) REQUIRE(rig.server->post_receive(i, rig.piece(0, 100)));
      REQUIRE(rig.establish());
      // The device's file goes first; but not where /dev is what it was made once.
      rig.fake.present = sign == no_channel || sign == no_async || sign == peer_closes_and_cm;
      if (sign == no_channel) {
        rig.fake.close_channels();
      } else if (sign == no_async) {
        rig.fake.close_async();
      } else if (sign == fatal_event) {
        ibv_async_event event{};
        event.event_type = IBV_EVENT_DEVICE_FATAL;
        rig.fake.raise(event);
      } else if (sign == posting_fails) {
        rig.fake.fail_call(1);
        REQUIRE(rig.server->post_send(1, {}));
        rig.server->ring();
        CHECK(rig.fake.last_failed == "post_send");
      } else if (sign == peer_closes) {
        rig.cm.hang_up(rig.cm.accepting());
      } else {
        rig.fake.flush = false;  // the end takes its time
        for (LinkEnd* end : {&rig.cm.accepting(), &rig.cm.connecting()}) {
          rig.cm.tell(*end, [](CmLink::Observer& o) { o.on_disconnected(); });
          rig.cm.tell(*end, [](CmLink::Observer& o) { o.on_device_removed(); });
        }
      }
      REQUIRE(rig.until([&] { return rig.both_closed(); }, 500));  // not by looking once a second
      for (const Recorder* events : {&rig.server_events, &rig.client_events}) {
        CHECK(events->close.cause == CloseCause::peer_reset);
        CHECK(events->close.detail == "the RDMA device was removed");
      }
      REQUIRE(rig.until([&] { return rig.fake.live() == 0; }));
    }
  }
}

TEST_CASE("a removal that the connection manager is about to tell is waited for") {
  for (const bool told : {true, false}) {
    for (const bool flushed_first : {true, false}) {
      CAPTURE(told);
      CAPTURE(flushed_first);
      Rig rig({.times = {.disconnect_ms = 50, .drain_ms = 50, .verdict_ms = 200}});
      for (uint64_t i = 0; i < 4; ++i) REQUIRE(rig.server->post_receive(i, rig.piece(0, 100)));
      REQUIRE(rig.establish());
      rig.cm.device_in_doubt = true;
      if (flushed_first) {
        rig.fake.break_queue_pair(rig.server_qp());
        rig.settle();
      }
      rig.cm.tell(rig.cm.accepting(), [](CmLink::Observer& o) { o.on_disconnected(); });
      rig.settle();
      CHECK(rig.server_events.closed_calls == 0);  // all its work has come back
      if (told) rig.cm.tell(rig.cm.accepting(), [](CmLink::Observer& o) { o.on_device_removed(); });
      REQUIRE(rig.until([&] { return rig.server_events.closed_calls == 1; }));
      CHECK(rig.server_events.close.detail == (told ? "the RDMA device was removed" : "closed by the peer"));
      CHECK(rig.server_events.close.cause == (told ? CloseCause::peer_reset : CloseCause::peer_closed));
    }
  }
}

TEST_CASE("a removal during set-up is the reason, too") {
  Rig rig;
  rig.client->start();
  REQUIRE(rig.until([&] { return rig.cm.connecting().answered; }));
  rig.fake.present = false;
  rig.cm.tell(rig.cm.connecting(), [](CmLink::Observer& o) { o.on_disconnected(); });
  REQUIRE(rig.until([&] { return rig.client_events.closed_calls == 1; }));
  CHECK(rig.client_events.close.cause == CloseCause::setup_failed);
  CHECK(rig.client_events.close.detail == "the RDMA device was removed");
}

TEST_CASE("what a device that stays says is what ended its connections") {
  Rig rig;
  REQUIRE(rig.establish());
  rig.cm.hang_up(rig.cm.accepting());
  REQUIRE(rig.until([&] { return rig.both_closed(); }));
  CHECK(rig.client_events.close.detail == "closed by the peer");
  CHECK(rig.table->devices_open() == 1);
}

TEST_CASE("a device that is going away takes nobody, and may come back") {
  Rig rig;
  REQUIRE(rig.establish());
  verbs::Device* device = rig.table->devices()[0].get();
  device->remove("was removed");
  CHECK(rig.table->open(FakeVerbs::kGuid, {}).error().what == "RDMA device fake0 is going away");
  REQUIRE(rig.until([&] { return rig.table->devices_open() == 0; }));
  CHECK(rig.table->open(FakeVerbs::kGuid, {.device_idle_ms = 1}).has_value());
  // Opened for nobody: it closes as well.
  REQUIRE(rig.until([&] { return rig.table->devices_open() == 0; }));
}

TEST_CASE("asynchronous events, by name") {
  for (const ibv_event_type type :
       {IBV_EVENT_QP_FATAL, IBV_EVENT_QP_REQ_ERR, IBV_EVENT_QP_ACCESS_ERR, IBV_EVENT_PORT_ERR,
        IBV_EVENT_PORT_ACTIVE, IBV_EVENT_COMM_EST, IBV_EVENT_QP_LAST_WQE_REACHED, IBV_EVENT_GID_CHANGE,
        IBV_EVENT_SQ_DRAINED, ibv_event_type(IBV_EVENT_WQ_FATAL + 1),
        ibv_event_type(31)}) {  // of later releases
    CAPTURE(ibv_event_type_str(type));
    Rig rig;
    REQUIRE(rig.establish());
    ibv_async_event event{};
    event.event_type = type;
    const bool of_queue_pair =
        type == IBV_EVENT_QP_FATAL || type == IBV_EVENT_QP_REQ_ERR || type == IBV_EVENT_QP_ACCESS_ERR;
    if (of_queue_pair) {
      event.element.qp = &rig.server_qp().handle;
    } else {
      event.element.port_num = 1;
    }
    rig.fake.raise(event);
    rig.settle();
    CHECK(rig.server_events.closed_calls == (of_queue_pair ? 1 : 0));
    if (!of_queue_pair) continue;
    CHECK(rig.server_events.close.cause == CloseCause::protocol_error);
    CHECK(rig.server_events.close.detail.find(ibv_event_type_str(type)) != std::string::npos);
    CHECK(rig.client_events.close.cause == CloseCause::peer_closed);
  }
}

TEST_CASE("a broken completion queue is the device's end") {
  Rig rig;
  REQUIRE(rig.establish());
  ibv_async_event event{};
  event.event_type = IBV_EVENT_CQ_ERR;
  rig.fake.raise(event);
  REQUIRE(rig.until([&] { return rig.both_closed(); }));
  REQUIRE(rig.until([&] { return rig.fake.live() == 0; }));
}

TEST_CASE("completion queues grow in number with the connections, and room is used again") {
  Rig rig;
  rig.fake.attributes.max_cqe = 2000;  // of 512 + 16 + 256, or + 32, for each
  REQUIRE(rig.establish());
  const auto count = [&] { return rig.table->devices()[0]->completion_queues(); };
  CHECK(count() == 1);
  std::vector<std::unique_ptr<fabric::Endpoint>> more;
  std::vector<std::unique_ptr<Recorder>> recorders;
  std::vector<std::unique_ptr<CmLink>> others;
  const auto connect = [&] {
    auto [accepting, connecting] = rig.cm.make_pair();
    others.push_back(std::move(accepting));
    recorders.push_back(std::make_unique<Recorder>());
    more.push_back(std::make_unique<verbs::VerbsEndpoint>(rig.loop.get(), *rig.table, std::move(connecting),
                                                          verbs::Side::connecting, verbs::Options{},
                                                          *recorders.back()));
    more.back()->start();
    rig.settle();
  };
  for (int i = 0; i < 5; ++i) connect();
  CHECK(count() == 4);
  more.clear();
  rig.settle();
  for (int i = 0; i < 6; ++i) connect();
  CHECK(count() == 4);
  CHECK(rig.fake.live_cqs() == 4);
}

TEST_CASE("work in one wake-up is bounded, and other work of the loop has its turn") {
  RigOptions options;
  options.client.max_receive_work = 2000;
  options.server.max_send_work = 2000;
  Rig rig(options);
  for (uint64_t i = 0; i < 1000; ++i) REQUIRE(rig.client->post_receive(i, rig.piece(0, 100)));
  REQUIRE(rig.establish());
  for (uint64_t i = 0; i < 1000; ++i) REQUIRE(rig.server->post_send(i, {}));
  rig.server->ring();
  rig.fake.run();
  for (size_t turn = 1; rig.client_events.done.size() < 1000; ++turn) {
    REQUIRE(turn < 10);
    const size_t before = rig.client_events.done.size() + rig.server_events.done.size();
    rig.loop.turn();
    // A signalled SEND stands for up to 32.
    CHECK(rig.client_events.done.size() + rig.server_events.done.size() - before <= 256 * 32);
    CHECK(rig.client_events.done.size() <= turn * 256 * 2);
  }
  rig.settle();
  CHECK(rig.server_events.done.size() == 1000);
  CHECK(rig.client_events.calls >= 4);
}

/// The client's queue is looked at although nothing has armed it.
void check_found_without_an_event(Rig& rig) {
  REQUIRE(rig.server->post_send(1, {}));
  rig.server->ring();
  REQUIRE(rig.until([&] { return rig.client_events.done.size() == 1; }));
  const auto& stats = rig.table->devices()[0]->stats();
  const uint64_t wakes = stats.wakes;
  rig.loop.turn(3);
  CHECK_FALSE(rig.client_qp().cq->armed);
  REQUIRE(rig.server->post_send(1, {}));
  rig.server->ring();
  rig.fake.run();
  rig.loop.turn(2);
  CHECK(stats.wakes == wakes);
  CHECK(rig.client_events.done.size() == 2);
}

TEST_CASE("busy polling looks again for a while before it arms") {
  RigOptions options;
  options.server.busy_poll_us = options.client.busy_poll_us = 5000;
  Rig rig(options);
  for (uint64_t i = 0; i < 4; ++i) REQUIRE(rig.client->post_receive(i, rig.piece(0, 100)));
  REQUIRE(rig.establish());
  check_found_without_an_event(rig);
  REQUIRE(rig.until([&] { return rig.client_qp().cq->armed; }));
}

TEST_CASE("while the loop is kept awake its queues are not armed; when it is not, they are") {
  uint64_t now = 0;
  uv_loop_t other{};  // the worker's own, here one that nothing happens on
  REQUIRE(uv_loop_init(&other) == 0);
  auto busy = std::make_unique<shm::BusyPoll>(
      other, 100,
      shm::BusyPoll::Senses{.clock = [&] { return now; }, .processors_suffice = [] { return true; }});
  {
    RigOptions options;
    options.server.busy_poll = options.client.busy_poll = busy.get();
    Rig rig(options);
    for (uint64_t i = 0; i < 4; ++i) REQUIRE(rig.client->post_receive(i, rig.piece(0, 100)));
    REQUIRE(rig.establish());
    REQUIRE(rig.until([&] { return rig.client_qp().cq->armed; }));
    // It has learned that waits are short, and expects something.
    uv_async_t wakes{};
    REQUIRE(uv_async_init(&other, &wakes, nullptr) == 0);
    uv_run(&other, UV_RUN_NOWAIT);
    busy->expect();
    REQUIRE(uv_async_send(&wakes) == 0);
    uv_run(&other, UV_RUN_ONCE);
    REQUIRE(busy->limit() > 0);
    busy->expect();
    REQUIRE(busy->awake());
    check_found_without_an_event(rig);
    now += busy->limit();
    uv_run(&other, UV_RUN_NOWAIT);
    REQUIRE_FALSE(busy->awake());
    CHECK(rig.until([&] { return rig.client_qp().cq->armed; }));
    uv_close(reinterpret_cast<uv_handle_t*>(&wakes), nullptr);
  }
  busy.reset();
  uv_run(&other, UV_RUN_DEFAULT);
  CHECK(uv_loop_close(&other) == 0);
}

TEST_CASE("a handler may end other connections while completions are handed out") {
  Rig rig;
  for (uint64_t i = 0; i < 4; ++i) REQUIRE(rig.client->post_receive(i, rig.piece(0, 100)));
  for (uint64_t i = 0; i < 4; ++i) REQUIRE(rig.server->post_receive(i, rig.piece(0, 100)));
  REQUIRE(rig.establish());
  rig.server_events.when_done = [&](const auto&) { rig.client.reset(); };
  rig.client_events.when_done = [&](const auto&) { rig.server.reset(); };
  REQUIRE(rig.client->post_send(1, {}));
  REQUIRE(rig.server->post_send(1, {}));
  rig.client->ring();
  rig.server->ring();
  REQUIRE(rig.until([&] { return rig.client == nullptr || rig.server == nullptr; }));
  rig.settle();
  CHECK((rig.client == nullptr) != (rig.server == nullptr));
}

TEST_CASE("a block that leaves the arena is deregistered first") {
  Rig rig;
  REQUIRE(rig.establish());
  std::vector<std::byte> block(10'000);
  const uint32_t key = rig.arena.add(block);
  const size_t before = rig.fake.live_mrs();
  REQUIRE(rig.client->post_receive(1, rig.piece(0, 10)));
  REQUIRE(rig.client->post_receive(2, rig.piece(0, 10)));
  rig.client->ring();
  const fabric::Sge piece[] = {{.addr = block.data(), .length = 10'000, .key = key}};
  const fabric::Sge small[] = {{.addr = block.data(), .length = 10, .key = key}};
  CHECK(rig.server->post_send(1, small).has_value());
  CHECK(rig.server->post_send(1, small).has_value());
  CHECK(rig.fake.live_mrs() == before + 2);  // the client's, for its receives; the server's, once
  rig.server->ring();
  REQUIRE(rig.until([&] { return rig.server_events.done.size() == 2; }));
  rig.arena.remove(key);
  CHECK(rig.fake.live_mrs() == before + 1);
  CHECK(rig.server->post_send(1, piece).error() == PostError::not_registered);
}

TEST_CASE("identities of work requests") {
  using verbs::WorkId;
  using verbs::WorkKind;
  for (const WorkId id : {WorkId{0, 0, WorkKind::message, 0}, WorkId{65535, 1, WorkKind::read, 77},
                          WorkId{1, 65535, WorkKind::receive, WorkId::kSequenceMask}}) {
    const WorkId back = WorkId::unpack(id.pack());
    CHECK(back.seat == id.seat);
    CHECK(back.generation == id.generation);
    CHECK(back.kind == id.kind);
    CHECK(back.sequence == id.sequence);
  }
  CHECK(WorkId::not_after(5, 5));
  CHECK(WorkId::not_after(5, 6));
  CHECK_FALSE(WorkId::not_after(6, 5));
  CHECK(WorkId::not_after(WorkId::kSequenceMask, 3));
  CHECK_FALSE(WorkId::not_after(3, WorkId::kSequenceMask));
}

}  // namespace
}  // namespace smbdirect::test
