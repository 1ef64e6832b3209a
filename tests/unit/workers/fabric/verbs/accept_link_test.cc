// SPDX-License-Identifier: MIT
// The accepting link on a file whose kernel is the test's: the order of calls, every event in every state,
// errors at each call, and that an id is destroyed exactly once.
#include "workers/fabric/verbs/accept_link.h"

#include <algorithm>
#include <map>
#include <memory>

#include <doctest/doctest.h>

#include "cm_support.h"
#include "fake_kernel.h"
#include "workers/fabric/verbs/private_data.h"

namespace {

using namespace verbs_test;
using daemon::CmEventType;
using daemon::CmParameters;
using verbs::AcceptFile;
using verbs::AcceptLink;

constexpr uint32_t kId = 5;

struct Rig {
  explicit Rig(bool iwarp = false) {
    kernel.set_device(iwarp);
    auto cm = daemon::RdmaCm::open(kernel);
    REQUIRE(cm);
    file = std::make_unique<AcceptFile>(loop, std::move(*cm));
    request.initiator_depth = 16;
    request.responder_resources = 4;
  }
  void make(uint32_t id = kId) { link = std::make_unique<AcceptLink>(*file, id, request); }
  void start() {
    if (!link) make();
    link->start(seen);
    CHECK(seen.told.empty());  // never from inside a call
    loop.turn();
  }
  void accept() {
    start();
    REQUIRE(seen.told.size() == 1);
    REQUIRE(link->accept(0x123, {.initiator_depth = 8, .responder_resources = 0}));
  }
  void establish() {
    accept();
    event(CmEventType::established);
    REQUIRE(seen.told.back() == "established");
  }
  void event(CmEventType type, int status = 0) {
    kernel.deliver(type, kId, kernel.accepted.uid, status);
    loop.turn();
  }

  Kernel kernel;
  Loop loop;
  std::unique_ptr<AcceptFile> file;
  CmParameters request;
  Recorder seen;
  std::unique_ptr<AcceptLink> link;
};

void set_private_data(CmParameters& request, const verbs::IrdOrd& values) {
  const auto bytes = verbs::ird_ord_bytes(values);
  std::ranges::copy(bytes, request.private_data.begin());
  request.private_data_length = 8;
}

}  // namespace

TEST_CASE("accept link: a connection from request to end") {
  Rig rig;
  rig.start();
  CHECK(rig.seen.told == Told{"resolved 16/4"});
  CHECK(rig.link->device().node_guid == 0xabcd);
  CHECK(rig.link->device().port == 1);
  CHECK(rig.link->description() == "192.0.2.1:445 <- 192.0.2.7:40000");

  const auto init = rig.link->qp_attributes(IBV_QPS_INIT);
  REQUIRE(init);
  CHECK(init->mask == (IBV_QP_STATE | IBV_QP_ACCESS_FLAGS | IBV_QP_PKEY_INDEX | IBV_QP_PORT));
  const auto rtr = rig.link->qp_attributes(IBV_QPS_RTR);
  REQUIRE(rtr);
  CHECK(rtr->attributes.qp_state == IBV_QPS_RTR);
  CHECK(rtr->attributes.dest_qp_num == 0x77);
  CHECK(rtr->mask == (IBV_QP_STATE | IBV_QP_DEST_QPN));  // without the kernel's own bits

  REQUIRE(rig.link->accept(0x123, {.initiator_depth = 8, .responder_resources = 0}));
  const auto& answer = rig.kernel.accepted;
  CHECK(answer.id == kId);
  CHECK(answer.uid != 0);
  CHECK(answer.conn_param.valid == 1);
  CHECK(answer.conn_param.qp_num == 0x123);
  CHECK(answer.conn_param.initiator_depth == 8);
  CHECK(answer.conn_param.responder_resources == 0);
  CHECK(answer.conn_param.flow_control == 0);
  CHECK(answer.conn_param.rnr_retry_count == 0);
  CHECK(answer.conn_param.private_data_len == 0);

  rig.event(CmEventType::established);
  REQUIRE(rig.link->disconnect());
  CHECK(rig.kernel.disconnected == std::vector<uint32_t>{kId});
  rig.event(CmEventType::disconnected);
  rig.event(CmEventType::timewait_exit);
  CHECK(rig.seen.told == Told{"resolved 16/4", "established", "disconnected"});
  CHECK(rig.kernel.destroyed.empty());
  rig.link.reset();
  CHECK(rig.kernel.destroyed == std::vector<uint32_t>{kId});
  CHECK(rig.file->links() == 0);
}

TEST_CASE("accept link: a device in doubt is one that a new id does not find at the address") {
  Rig rig;
  rig.start();
  for (const auto& [error, doubt] : std::map<int, bool>{{0, false}, {EADDRNOTAVAIL, false}, {ENODEV, true}}) {
    CAPTURE(error);
    if (error != 0) rig.kernel.errors[RDMA_USER_CM_CMD_BIND] = error;
    CHECK(rig.link->device_in_doubt() == doubt);
    CHECK(rig.kernel.destroyed == std::vector<uint32_t>{Kernel::kCreated});
    rig.kernel.destroyed.clear();
  }
  sockaddr_storage asked{};
  std::memcpy(&asked, &rig.kernel.bound.addr, sizeof rig.kernel.bound.addr);
  CHECK(shm::address_text(asked) == "192.0.2.1:0");
  rig.kernel.errors = {{RDMA_USER_CM_CMD_CREATE_ID, ENFILE}};
  CHECK_FALSE(rig.link->device_in_doubt());
}

TEST_CASE("accept link: iWARP leaves the upper states to the kernel and never says 0") {
  Rig rig(true);
  rig.start();
  for (const auto state : {IBV_QPS_RTR, IBV_QPS_RTS}) {
    const auto attributes = rig.link->qp_attributes(state);
    REQUIRE(attributes);
    CHECK(attributes->mask == 0);
  }
  CHECK(rig.link->qp_attributes(IBV_QPS_INIT)->mask == (IBV_QP_STATE | IBV_QP_ACCESS_FLAGS));
  REQUIRE(rig.link->accept(0x123, {.initiator_depth = 8, .responder_resources = 0}));
  CHECK(rig.kernel.accepted.conn_param.responder_resources == 1);
  CHECK(rig.kernel.accepted.conn_param.private_data_len == 0);  // none came, none goes
}

TEST_CASE("accept link: iWARP's private data") {
  Rig rig(true);
  SUBCASE("tightens the limits and is answered") {
    set_private_data(rig.request, {.ird = 6, .ord = 3});
    rig.start();
    CHECK(rig.seen.told == Told{"resolved 6/3"});
    REQUIRE(rig.link->accept(0x123, {.initiator_depth = 8, .responder_resources = 0}));
    const auto& answer = rig.kernel.accepted.conn_param;
    REQUIRE(answer.private_data_len == 8);
    const auto expected = verbs::ird_ord_bytes({.ird = 6, .ord = 1});
    CHECK(std::memcmp(answer.private_data, expected.data(), 8) == 0);
  }
  SUBCASE("refuses one who takes part in no READs") {
    set_private_data(rig.request, {.ird = 0, .ord = 1});
    rig.start();
    CHECK(rig.seen.told == Told{"failed"});
    CHECK(rig.seen.why.find("IRD 0 and ORD 1") != std::string::npos);
    CHECK_FALSE(rig.link->accept(1, {}));
  }
  SUBCASE("of another length is nobody's business") {
    set_private_data(rig.request, {.ird = 0, .ord = 0});
    rig.request.private_data_length = 9;
    rig.start();
    CHECK(rig.seen.told == Told{"resolved 16/4"});
  }
}

TEST_CASE("accept link: RoCE delivers 56 bytes, and eight would mean nothing") {
  Rig rig;
  set_private_data(rig.request, {.ird = 0, .ord = 0});
  rig.start();
  CHECK(rig.seen.told == Told{"resolved 16/4"});
  REQUIRE(rig.link->accept(1, {}));
  CHECK(rig.kernel.accepted.conn_param.private_data_len == 0);
}

TEST_CASE("accept link: errors at each call") {
  Rig rig;
  SUBCASE("the request is gone before it is looked at") {
    rig.kernel.errors[RDMA_USER_CM_CMD_QUERY] = ENOENT;
    rig.start();
    CHECK(rig.seen.told == Told{"failed"});
    CHECK(rig.seen.why.find("query") != std::string::npos);
  }
  SUBCASE("its device is gone") {
    rig.kernel.addresses.node_guid = 0;
    rig.start();
    CHECK(rig.seen.told == Told{"failed"});
    CHECK(rig.seen.why.find("device") != std::string::npos);
  }
  SUBCASE("no attributes") {
    rig.kernel.errors[RDMA_USER_CM_CMD_INIT_QP_ATTR] = EINVAL;
    rig.start();
    CHECK(rig.seen.told == Told{"failed"});
  }
  SUBCASE("attributes of a later state") {
    rig.start();
    rig.kernel.errors[RDMA_USER_CM_CMD_INIT_QP_ATTR] = EINVAL;
    CHECK_FALSE(rig.link->qp_attributes(IBV_QPS_RTR));
    CHECK(rig.seen.told == Told{"resolved 16/4"});
  }
  SUBCASE("the client has given up") {
    rig.start();
    rig.kernel.errors[RDMA_USER_CM_CMD_ACCEPT] = EINVAL;
    CHECK_FALSE(rig.link->accept(1, {}));
    rig.kernel.errors.clear();
    CHECK_FALSE(rig.link->accept(1, {}));  // and not again
    rig.event(CmEventType::established);
    CHECK(rig.seen.told == Told{"resolved 16/4"});
  }
  SUBCASE("disconnecting") {
    rig.establish();
    rig.kernel.errors[RDMA_USER_CM_CMD_DISCONNECT] = EINVAL;
    CHECK_FALSE(rig.link->disconnect());
  }
  SUBCASE("the device has taken the id with it") {
    rig.establish();
    rig.kernel.errors[RDMA_USER_CM_CMD_DESTROY_ID] = ENOENT;
    rig.link.reset();
    CHECK(rig.file->links() == 0);
    return;
  }
  rig.link.reset();
  CHECK(rig.kernel.destroyed == std::vector<uint32_t>{kId});
}

TEST_CASE("accept link: calls of the other side, or too early") {
  Rig rig;
  rig.make();
  CHECK_FALSE(rig.link->accept(1, {}));
  rig.start();
  CHECK_FALSE(rig.link->connect(1, {}));
  CHECK_FALSE(rig.link->establish());
  REQUIRE(rig.link->accept(1, {}));
  CHECK_FALSE(rig.link->accept(1, {}));
}

TEST_CASE("accept link: the set-up fails after accept") {
  for (const auto type : {CmEventType::disconnected, CmEventType::rejected, CmEventType::unreachable,
                          CmEventType::connect_error}) {
    Rig rig;
    rig.accept();
    rig.event(type, -ETIMEDOUT);
    CHECK(rig.seen.told == Told{"resolved 16/4", "failed"});
    CHECK_FALSE(rig.seen.why.empty());
    // Once is enough, and what comes late changes nothing.
    rig.event(type);
    rig.event(CmEventType::established);
    rig.event(CmEventType::disconnected);
    CHECK(rig.seen.told == Told{"resolved 16/4", "failed"});
    rig.link.reset();
    CHECK(rig.kernel.destroyed == std::vector<uint32_t>{kId});
  }
}

TEST_CASE("accept link: an established connection ends once") {
  for (const auto type : {CmEventType::disconnected, CmEventType::rejected, CmEventType::unreachable}) {
    Rig rig;
    rig.establish();
    rig.event(type);
    rig.event(CmEventType::disconnected);
    rig.event(CmEventType::established);
    CHECK(rig.seen.told == Told{"resolved 16/4", "established", "disconnected"});
  }
}

TEST_CASE("accept link: the device goes, before and after everything") {
  SUBCASE("while accepting") {
    Rig rig;
    rig.accept();
    rig.event(CmEventType::device_removal);
    rig.event(CmEventType::disconnected);
    CHECK(rig.seen.told == Told{"resolved 16/4", "device removed"});
  }
  SUBCASE("established") {
    Rig rig;
    rig.establish();
    rig.event(CmEventType::device_removal);
    rig.event(CmEventType::disconnected);
    CHECK(rig.seen.told == Told{"resolved 16/4", "established", "device removed"});
    rig.link.reset();
    CHECK(rig.kernel.destroyed == std::vector<uint32_t>{kId});
  }
  SUBCASE("disconnected already") {
    Rig rig;
    rig.establish();
    rig.event(CmEventType::disconnected);
    rig.event(CmEventType::device_removal);
    CHECK(rig.seen.told == Told{"resolved 16/4", "established", "disconnected", "device removed"});
  }
}

TEST_CASE("accept link: events that do not concern it change nothing") {
  Rig rig;
  rig.establish();
  for (unsigned number = 0; number < 300; ++number) {
    const auto type = static_cast<CmEventType>(std::min(number, 255u));
    if (type == CmEventType::disconnected || type == CmEventType::rejected ||
        type == CmEventType::unreachable || type == CmEventType::connect_error ||
        type == CmEventType::device_removal) {
      continue;
    }
    rig.event(type);
  }
  CHECK(rig.seen.told == Told{"resolved 16/4", "established"});
}

TEST_CASE("accept link: destroyed at any time, it destroys its id once and hears nothing more") {
  Rig rig;
  SUBCASE("never started") { rig.make(); }
  SUBCASE("started, not resolved") {
    rig.make();
    rig.link->start(rig.seen);
  }
  SUBCASE("resolved") { rig.start(); }
  SUBCASE("accepting") { rig.accept(); }
  SUBCASE("established, its end under way") {
    rig.establish();
    rig.kernel.deliver(CmEventType::disconnected, kId, rig.kernel.accepted.uid);
  }
  rig.link.reset();
  const auto before = rig.seen.told;
  rig.event(CmEventType::disconnected);
  CHECK(rig.seen.told == before);
  CHECK(rig.kernel.destroyed == std::vector<uint32_t>{kId});
}

TEST_CASE("accept file: stale cookies find nobody, also when their place is taken again") {
  Rig rig;
  rig.establish();
  const uint64_t first = rig.kernel.accepted.uid;
  rig.link.reset();
  rig.seen.told.clear();
  rig.make(6);
  rig.accept();
  const uint64_t second = rig.kernel.accepted.uid;
  CHECK(first != second);
  CHECK((first & UINT32_MAX) == (second & UINT32_MAX));  // the same place
  for (const uint64_t stale : {first, uint64_t{0}, second + 1, ~uint64_t{0}}) {
    rig.kernel.deliver(CmEventType::disconnected, kId, stale);
  }
  rig.loop.turn();
  CHECK(rig.seen.told == Told{"resolved 16/4"});
  rig.event(CmEventType::established);
  CHECK(rig.seen.told == Told{"resolved 16/4", "established"});
}

TEST_CASE("accept file: a link may go while another hears its event") {
  Rig rig;
  rig.establish();
  const uint64_t first = rig.kernel.accepted.uid;
  Recorder other;
  auto second = std::make_unique<AcceptLink>(*rig.file, 6, rig.request);
  second->start(other);
  rig.loop.turn();
  REQUIRE(second->accept(2, {}));
  rig.seen.also = [&](const std::string&) { second.reset(); };
  rig.kernel.deliver(CmEventType::disconnected, kId, first);
  rig.kernel.deliver(CmEventType::established, 6, rig.kernel.accepted.uid);
  rig.loop.turn();
  CHECK(other.told == Told{"resolved 16/4"});
  CHECK(rig.kernel.destroyed == std::vector<uint32_t>{6});
}

TEST_CASE("accept file: more events than one turn takes are all delivered") {
  Rig rig;
  rig.establish();
  for (int i = 0; i < 200; ++i) {
    rig.kernel.deliver(CmEventType::timewait_exit, kId, rig.kernel.accepted.uid);
  }
  rig.kernel.deliver(CmEventType::disconnected, kId, rig.kernel.accepted.uid);
  rig.loop.turn();
  CHECK(rig.seen.told.back() == "disconnected");
}

TEST_CASE("accept file: when it cannot be read any more its connections end") {
  Rig rig;
  rig.establish();
  Recorder other;
  AcceptLink second(*rig.file, 6, rig.request);
  second.start(other);
  Recorder unheard;
  AcceptLink third(*rig.file, 7, rig.request);  // not started: nobody to tell
  rig.loop.turn();
  rig.kernel.errors[RDMA_USER_CM_CMD_GET_EVENT] = EACCES;
  rig.kernel.wake();
  rig.loop.turn();
  CHECK(rig.seen.told.back() == "disconnected");
  CHECK(other.told.back() == "failed");
  CHECK(other.why.find("credentials") != std::string::npos);
}
