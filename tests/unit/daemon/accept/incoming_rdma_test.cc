// SPDX-License-Identifier: MIT
// A connection request's ways through the supervisor, against a kernel that says who has which id.
#include "daemon/accept/incoming_rdma.h"

#include <memory>
#include <utility>

#include <doctest/doctest.h>

#include "tests/unit/daemon/accept/fake_kernel.h"

using namespace smbdirect::daemon;
namespace shm = smbdirect::shm;

namespace {

struct Rig {
  fake::Kernel kernel;
  RdmaCm listeners = *RdmaCm::open(kernel);
  RdmaCm handover = *RdmaCm::open(kernel);
  RdmaCm other_handover = *RdmaCm::open(kernel);
  RdmaCm worker = *RdmaCm::open(kernel);
  uint32_t id = 0;

  std::unique_ptr<IncomingRdma> request(uint8_t private_length = 0) {
    kernel.devices = {"192.0.2.1:445"};
    const uint32_t listener = listeners.create(1).value();
    REQUIRE(listeners.bind(listener, *shm::address_from_text("192.0.2.1", 445)));
    REQUIRE(listeners.listen(listener, 8));
    id = kernel.request("192.0.2.9", private_length);
    const auto event = listeners.next_event();
    REQUIRE(event);
    REQUIRE(event->has_value());
    return std::make_unique<IncomingRdma>(listeners, **event);
  }
  [[nodiscard]] bool on(const RdmaCm& file) const { return kernel.ids.at(id).file == file.fd(); }
  [[nodiscard]] bool turned_away() const {
    const auto at = kernel.destroyed.find(id);
    return at != kernel.destroyed.end() && at->second.rejected;
  }
};

}  // namespace

TEST_CASE("an offered request is on the worker's hand-over file, and the message says what it is") {
  Rig rig;
  const auto request = rig.request(8);
  CHECK_FALSE(request->grant());
  message::Offer message;
  REQUIRE(request->prepare(&rig.handover, message));
  CHECK(rig.on(rig.handover));
  CHECK(message.fabric == Fabric::verbs);
  CHECK(message.cm.id == rig.id);
  CHECK(message.cm.initiator_depth == 32);
  CHECK(message.cm.responder_resources == 1);
  CHECK(message.cm.private_data_length == 8);
  CHECK(message.cm.private_data[7] == std::byte{7});
}

TEST_CASE("private data that is not SMB Direct's keeps its length and no more than fits") {
  Rig rig;
  const auto request = rig.request(196);
  message::Offer message;
  REQUIRE(request->prepare(&rig.handover, message));
  CHECK(message.cm.private_data_length == 196);
  CHECK(message.cm.private_data[7] == std::byte{7});
}

TEST_CASE("a request that nobody takes is rejected, wherever it is") {
  Rig rig;
  auto request = rig.request();
  SUBCASE("never offered") {}
  SUBCASE("offered and not taken back") {
    message::Offer message;
    REQUIRE(request->prepare(&rig.handover, message));
  }
  SUBCASE("offered and taken back") {
    message::Offer message;
    REQUIRE(request->prepare(&rig.handover, message));
    CHECK(request->take_back() == TakenBack::ours);
    CHECK(rig.on(rig.listeners));
  }
  SUBCASE("to a pool without verbs") {
    message::Offer message;
    CHECK_FALSE(request->prepare(nullptr, message));
  }
  request.reset();
  CHECK(rig.turned_away());
}

TEST_CASE("what the worker has taken is its own, whether it said so or not") {
  Rig rig;
  auto request = rig.request();
  message::Offer message;
  REQUIRE(request->prepare(&rig.handover, message));
  REQUIRE(rig.worker.migrate(rig.id, rig.handover.fd()));
  SUBCASE("it said TAKE") { request->handed_over(); }
  SUBCASE("it did not answer in time") { CHECK(request->take_back() == TakenBack::workers); }
  SUBCASE("the pool ends meanwhile") {}
  request.reset();
  CHECK(rig.on(rig.worker));
  CHECK_FALSE(rig.turned_away());
}

TEST_CASE("taken back, it goes to another worker, and the first cannot take it any more") {
  Rig rig;
  auto request = rig.request();
  message::Offer message;
  REQUIRE(request->prepare(&rig.handover, message));
  REQUIRE(request->take_back() == TakenBack::ours);
  CHECK(rig.worker.migrate(rig.id, rig.handover.fd()).error().system_errno == EINVAL);
  REQUIRE(request->prepare(&rig.other_handover, message));
  CHECK(rig.on(rig.other_handover));
}

TEST_CASE("a request whose device is gone ends, and its id with it") {
  Rig rig;
  auto request = rig.request();
  message::Offer message;
  REQUIRE(request->prepare(&rig.handover, message));
  rig.kernel.fail_command[RDMA_USER_CM_CMD_MIGRATE_ID] = ENXIO;
  CHECK(request->take_back() == TakenBack::gone);
  CHECK(request->take_back() == TakenBack::gone);
  CHECK(rig.kernel.destroyed.contains(rig.id));
  request.reset();
}
