// SPDX-License-Identifier: MIT
// The connecting link over a librdmacm that is the test's: the order of calls on both kinds of fabric, errors
// at each call, every event in every state; events are acknowledged before they are acted on and ids
// destroyed once.
#include "workers/fabric/verbs/connect_link.h"

#include <cerrno>
#include <map>
#include <memory>
#include <set>

#include <doctest/doctest.h>

#include "cm_support.h"
#include "fake_rdma.h"
#include "workers/fabric/verbs/connect_causes.h"

namespace {

using namespace verbs_test;

struct Rig {
  explicit Rig(bool with_iwarp = false) : iwarp(with_iwarp) { rdma.set_device(with_iwarp); }
  shm::Result<std::unique_ptr<ConnectLink>> try_make() {
    return ConnectLink::make(rdma, loop, *shm::address_from_text("192.0.2.1", 445), from);
  }
  void make() {
    auto made = try_make();
    REQUIRE(made);
    link = std::move(*made);
  }
  void start() {
    if (!link) make();
    link->start(seen);
    CHECK(seen.told.empty());
    loop.turn();
  }
  void event(int type, int status = 0) {
    rdma.deliver(type, status);
    loop.turn();
  }
  void resolve() {
    start();
    event(RDMA_CM_EVENT_ADDR_RESOLVED);
    event(RDMA_CM_EVENT_ROUTE_RESOLVED);
    REQUIRE(seen.told == Told{"resolved 0/0"});
  }
  void connect() {
    resolve();
    REQUIRE(link->connect(0x123, {.initiator_depth = 0, .responder_resources = 32}));
  }
  void be_accepted() {
    connect();
    event(iwarp ? RDMA_CM_EVENT_ESTABLISHED : RDMA_CM_EVENT_CONNECT_RESPONSE);
    REQUIRE(seen.told == Told{"resolved 0/0", "accepted 9/3"});
  }
  void establish() {
    be_accepted();
    REQUIRE(link->establish());
    REQUIRE(seen.told.back() == "accepted 9/3");  // not from inside the call
    loop.turn();
    REQUIRE(seen.told.back() == "established");
  }

  bool iwarp;
  std::optional<sockaddr_storage> from;
  FakeRdma rdma;
  Loop loop;
  Recorder seen;
  std::unique_ptr<ConnectLink> link;
};

const std::vector<rdma_cm_event_type> kFailures = {RDMA_CM_EVENT_ADDR_ERROR,    RDMA_CM_EVENT_ROUTE_ERROR,
                                                   RDMA_CM_EVENT_CONNECT_ERROR, RDMA_CM_EVENT_UNREACHABLE,
                                                   RDMA_CM_EVENT_REJECTED,      RDMA_CM_EVENT_DISCONNECTED};

}  // namespace

TEST_CASE("connect link: InfiniBand and RoCE, from beginning to end") {
  Rig rig;
  rig.establish();
  CHECK(rig.rdma.calls == Told{"resolve_addr", "resolve_route", "connect", "establish"});
  CHECK(rig.link->device().node_guid == 0xabcd);
  CHECK(rig.link->device().port == 2);
  CHECK(rig.link->description() == "192.0.2.7:40000 -> 192.0.2.1:445");
  const auto& asked = rig.rdma.connected;
  CHECK(asked.qp_num == 0x123);
  CHECK(asked.initiator_depth == 0);
  CHECK(asked.responder_resources == 32);
  CHECK(asked.retry_count == 6);
  CHECK(asked.rnr_retry_count == 0);
  CHECK(asked.flow_control == 0);
  CHECK(rig.rdma.private_data.empty());
  for (const auto state : {IBV_QPS_INIT, IBV_QPS_RTR, IBV_QPS_RTS}) {
    const auto attributes = rig.link->qp_attributes(state);
    REQUIRE(attributes);
    CHECK(attributes->attributes.qp_state == state);
    CHECK(attributes->mask == (IBV_QP_STATE | IBV_QP_DEST_QPN));
  }
  REQUIRE(rig.link->disconnect());
  rig.event(RDMA_CM_EVENT_DISCONNECTED);
  rig.event(RDMA_CM_EVENT_TIMEWAIT_EXIT);
  CHECK(rig.seen.told == Told{"resolved 0/0", "accepted 9/3", "established", "disconnected"});
  rig.link.reset();
  CHECK(rig.rdma.destroyed == 1);
}

TEST_CASE("connect link: a device in doubt is one that a new id does not find at the address") {
  Rig rig;
  rig.establish();
  for (const auto& [error, doubt] : std::map<int, bool>{{0, false}, {EADDRNOTAVAIL, false}, {ENODEV, true}}) {
    CAPTURE(error);
    if (error != 0) rig.rdma.errors["bind_addr"] = error;
    CHECK(rig.link->device_in_doubt() == doubt);
    CHECK(rig.rdma.ids == 1);
  }
  rig.rdma.errors = {{"create_id", ENFILE}};
  CHECK_FALSE(rig.link->device_in_doubt());
  rig.rdma.errors.clear();
}

TEST_CASE("connect link: iWARP is up before it says so") {
  Rig rig(true);
  rig.establish();
  CHECK(rig.rdma.calls == Told{"resolve_addr", "resolve_route", "connect"});
  // IRD 32, ORD 0 made 1.
  CHECK(rig.rdma.private_data == std::string("\0\0\0\x20\0\0\0\x01", 8));
  CHECK(rig.rdma.connected.initiator_depth == 1);
  CHECK(rig.rdma.connected.responder_resources == 32);
  CHECK(rig.link->qp_attributes(IBV_QPS_INIT)->mask != 0);
  CHECK(rig.link->qp_attributes(IBV_QPS_RTR)->mask == 0);
  CHECK(rig.link->qp_attributes(IBV_QPS_RTS)->mask == 0);
}

TEST_CASE("connect link: iWARP's connection is lost between the server's word and ours") {
  Rig rig(true);
  rig.be_accepted();
  SUBCASE("before establish") {
    rig.event(RDMA_CM_EVENT_DISCONNECTED);
    CHECK_FALSE(rig.link->establish());
  }
  SUBCASE("after it") {
    REQUIRE(rig.link->establish());
    // The events are read before what is due: whoever is told of an established connection has one.
    rig.rdma.deliver(RDMA_CM_EVENT_DISCONNECTED, 0);
    rig.seen.told.pop_back();
    rig.loop.turn();
    if (rig.seen.told.back() == "disconnected") {
      CHECK(rig.seen.told == Told{"resolved 0/0", "established", "disconnected"});
    } else {
      CHECK(rig.seen.told == Told{"resolved 0/0", "failed"});
    }
    return;
  }
  CHECK(rig.seen.told == Told{"resolved 0/0", "accepted 9/3", "failed"});
}

TEST_CASE("connect link: a source address is used") {
  Rig rig;
  rig.from = *shm::address_from_text("192.0.2.9", 0);
  rig.start();
  CHECK(rig.rdma.calls == Told{"resolve_addr from"});
}

TEST_CASE("connect link: errors at each call") {
  SUBCASE("no event channel: no device, usually") {
    Rig rig;
    rig.rdma.errors["create_event_channel"] = ENODEV;
    const auto made = rig.try_make();
    REQUIRE_FALSE(made);
    CHECK(made.error().text().find("rdma link") != std::string::npos);
    rig.rdma.errors["create_event_channel"] = EACCES;
    CHECK(rig.try_make().error().text().find("/dev/infiniband") != std::string::npos);
  }
  SUBCASE("no id") {
    Rig rig;
    rig.rdma.errors["create_id"] = ENOMEM;
    CHECK_FALSE(rig.try_make());
  }
  SUBCASE("the address is refused at once") {
    const std::map<int, const char*> texts = {{ENODEV, "no RDMA device reaches 192.0.2.1:445"},
                                              {EADDRNOTAVAIL, "source address"},
                                              {ENETUNREACH, "no route"},
                                              {EINVAL, "Invalid argument"}};
    for (const auto& [error, text] : texts) {
      Rig rig;
      rig.rdma.errors["resolve_addr"] = error;
      rig.start();
      CHECK(rig.seen.told == Told{"failed"});
      CHECK_MESSAGE(rig.seen.why.find(text) != std::string::npos, rig.seen.why);
    }
  }
  SUBCASE("the address has no device in the end") {
    Rig rig;
    rig.rdma.id.verbs = nullptr;
    rig.start();
    rig.event(RDMA_CM_EVENT_ADDR_RESOLVED);
    CHECK(rig.seen.told == Told{"failed"});
  }
  SUBCASE("the route is refused at once") {
    Rig rig;
    rig.rdma.errors["resolve_route"] = EINVAL;
    rig.start();
    rig.event(RDMA_CM_EVENT_ADDR_RESOLVED);
    CHECK(rig.seen.told == Told{"failed"});
    CHECK(rig.seen.why.find("rdma_resolve_route") != std::string::npos);
  }
  SUBCASE("no attributes") {
    Rig rig;
    rig.resolve();
    rig.rdma.errors["init_qp_attr"] = EINVAL;
    CHECK_FALSE(rig.link->qp_attributes(IBV_QPS_INIT));
  }
  SUBCASE("connect") {
    Rig rig;
    rig.resolve();
    rig.rdma.errors["connect"] = ECONNREFUSED;  // siw does so
    const auto refused = rig.link->connect(1, {});
    REQUIRE_FALSE(refused);
    CHECK(refused.error().text().find("nothing listens") != std::string::npos);
    rig.rdma.errors.clear();
    CHECK_FALSE(rig.link->connect(1, {}));
    CHECK(rig.seen.told == Told{"resolved 0/0"});
  }
  SUBCASE("establish") {
    Rig rig;
    rig.be_accepted();
    rig.rdma.errors["establish"] = EINVAL;
    CHECK_FALSE(rig.link->establish());
    rig.event(RDMA_CM_EVENT_DISCONNECTED);
    CHECK(rig.seen.told == Told{"resolved 0/0", "accepted 9/3"});
  }
  SUBCASE("disconnect") {
    Rig rig;
    rig.establish();
    rig.rdma.errors["disconnect"] = EINVAL;
    CHECK_FALSE(rig.link->disconnect());
  }
  SUBCASE("the events cannot be read") {
    Rig rig;
    rig.connect();
    rig.rdma.errors["get_cm_event"] = EIO;
    rig.rdma.wake();
    rig.loop.turn();
    CHECK(rig.seen.told == Told{"resolved 0/0", "failed"});
  }
  SUBCASE("nor of an established connection") {
    Rig rig;
    rig.establish();
    rig.rdma.errors["get_cm_event"] = EIO;
    rig.rdma.wake();
    rig.loop.turn();
    CHECK(rig.seen.told.back() == "disconnected");
  }
}

TEST_CASE("connect link: calls of the other side, or out of order") {
  Rig rig;
  rig.make();
  CHECK_FALSE(rig.link->accept(1, {}));
  CHECK_FALSE(rig.link->connect(1, {}));
  CHECK_FALSE(rig.link->establish());
  rig.connect();
  CHECK_FALSE(rig.link->connect(1, {}));
  CHECK_FALSE(rig.link->establish());
}

TEST_CASE("connect link: a failure in every state of the set-up is told once, with a reason") {
  using Reach = void (Rig::*)();
  for (const Reach reach : {&Rig::start, &Rig::resolve, &Rig::connect, &Rig::be_accepted}) {
    for (const auto type : kFailures) {
      Rig rig;
      (rig.*reach)();
      const auto before = rig.seen.told;
      rig.event(type, type == RDMA_CM_EVENT_REJECTED ? 28 : -ETIMEDOUT);
      REQUIRE(rig.seen.told.size() == before.size() + 1);
      CHECK(rig.seen.told.back() == "failed");
      CHECK(rig.seen.why.find("192.0.2.1:445") != std::string::npos);
      for (const auto late : kFailures) rig.event(late);
      rig.event(RDMA_CM_EVENT_CONNECT_RESPONSE);
      rig.event(RDMA_CM_EVENT_ROUTE_RESOLVED);
      rig.event(RDMA_CM_EVENT_ADDR_RESOLVED);
      CHECK(rig.seen.told.size() == before.size() + 1);
      rig.link.reset();
      CHECK(rig.rdma.destroyed == 1);
    }
  }
}

TEST_CASE("connect link: the device goes, in every state") {
  using Reach = void (Rig::*)();
  for (const Reach reach : {&Rig::start, &Rig::resolve, &Rig::connect, &Rig::be_accepted, &Rig::establish}) {
    Rig rig;
    (rig.*reach)();
    const auto before = rig.seen.told.size();
    rig.event(RDMA_CM_EVENT_DEVICE_REMOVAL);
    rig.event(RDMA_CM_EVENT_DISCONNECTED);
    CHECK(rig.seen.told.size() == before + 1);
    CHECK(rig.seen.told.back() == "device removed");
    rig.link.reset();
    CHECK(rig.rdma.destroyed == 1);
  }
}

TEST_CASE("connect link: an established connection ends once") {
  Rig rig;
  rig.establish();
  rig.event(RDMA_CM_EVENT_DISCONNECTED);
  rig.event(RDMA_CM_EVENT_DISCONNECTED);
  rig.event(RDMA_CM_EVENT_REJECTED);
  CHECK(rig.seen.told == Told{"resolved 0/0", "accepted 9/3", "established", "disconnected"});
}

TEST_CASE("connect link: events that do not concern it change nothing") {
  const std::set<int> concern(kFailures.begin(), kFailures.end());
  for (const bool established : {false, true}) {
    Rig rig;
    established ? rig.establish() : rig.start();
    const auto before = rig.seen.told;
    for (int type = 0; type < 40; ++type) {
      if (concern.contains(type) || type == RDMA_CM_EVENT_DEVICE_REMOVAL) continue;
      if (!established && type == RDMA_CM_EVENT_ADDR_RESOLVED) continue;
      rig.event(type);
    }
    CHECK(rig.seen.told == before);
  }
}

TEST_CASE("connect link: destroyed at any time, it destroys its id once and hears nothing more") {
  Rig rig;
  SUBCASE("never started") { rig.make(); }
  SUBCASE("started, not begun") {
    rig.make();
    rig.link->start(rig.seen);
  }
  SUBCASE("resolving") { rig.start(); }
  SUBCASE("connecting, refused") {
    rig.connect();
    rig.rdma.deliver(RDMA_CM_EVENT_REJECTED, 28);
  }
  SUBCASE("its establishing due") {
    rig.be_accepted();
    REQUIRE(rig.link->establish());
  }
  SUBCASE("established") { rig.establish(); }
  rig.link.reset();
  const auto before = rig.seen.told;
  rig.loop.turn();
  CHECK(rig.seen.told == before);
  CHECK(rig.rdma.destroyed == 1);
}

TEST_CASE("connect causes: what a person reads") {
  const auto text = [](rdma_cm_event_type type, int status) {
    return verbs::failure_text(type, status, "192.0.2.1:445");
  };
  CHECK(text(RDMA_CM_EVENT_REJECTED, 28).find("refused the connection (it listens") != std::string::npos);
  CHECK(text(RDMA_CM_EVENT_REJECTED, 8).find("nothing listens") != std::string::npos);
  CHECK(text(RDMA_CM_EVENT_REJECTED, -ECONNREFUSED).find("nothing listens") != std::string::npos);
  CHECK(text(RDMA_CM_EVENT_REJECTED, 33).find("reason 33") != std::string::npos);
  CHECK(text(RDMA_CM_EVENT_ADDR_ERROR, -ENODEV).find("no RDMA device reaches") != std::string::npos);
  CHECK(text(RDMA_CM_EVENT_ADDR_ERROR, -ETIMEDOUT).find("no host answers") != std::string::npos);
  CHECK(text(RDMA_CM_EVENT_ADDR_ERROR, -1).find("cannot be used") != std::string::npos);
  CHECK(text(RDMA_CM_EVENT_UNREACHABLE, -ETIMEDOUT).find("timed out") != std::string::npos);
  CHECK(text(RDMA_CM_EVENT_ROUTE_ERROR, -EINVAL).find("no RDMA path") != std::string::npos);
}
