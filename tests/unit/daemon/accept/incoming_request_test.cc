// SPDX-License-Identifier: MIT
// A connection request's ways through the supervisor, against a kernel that says who has which id.
#include "daemon/accept/incoming_request.h"

#include <memory>
#include <utility>

#include <doctest/doctest.h>

#include "tests/unit/daemon/accept/fake_kernel.h"

using namespace smbdirect::daemon;
namespace shm = smbdirect::shm;

namespace {

struct Desk {
  fake::Kernel kernel;
  RdmaCm listeners = *RdmaCm::open(kernel);
  RdmaCm handover = *RdmaCm::open(kernel);
  RdmaCm other_handover = *RdmaCm::open(kernel);
  RdmaCm worker = *RdmaCm::open(kernel);
  uint32_t id = 0;

  std::unique_ptr<IncomingRequest> request(uint8_t private_length = 0) {
    kernel.devices = {"192.0.2.1:445"};
    const uint32_t listener = listeners.create(1).value();
    REQUIRE(listeners.bind(listener, *shm::address_from_text("192.0.2.1", 445)));
    REQUIRE(listeners.listen(listener, 8));
    id = kernel.request("192.0.2.9", private_length);
    const auto event = listeners.next_event();
    REQUIRE(event);
    REQUIRE(event->has_value());
    return std::make_unique<IncomingRequest>(listeners, **event);
  }
  [[nodiscard]] bool on(const RdmaCm& file) const { return kernel.ids.at(id).file == file.fd(); }
  [[nodiscard]] bool turned_away() const {
    const auto at = kernel.destroyed.find(id);
    return at != kernel.destroyed.end() && at->second.rejected;
  }
};

}  // namespace

TEST_CASE("an offered request is on the worker's hand-over file, and the message says what it is") {
  Desk desk;
  const auto request = desk.request(8);
  CHECK_FALSE(request->grant());
  Message message{.type = MessageType::offer};
  REQUIRE(request->prepare(&desk.handover, message));
  CHECK(desk.on(desk.handover));
  CHECK(message.fabric == Fabric::verbs);
  CHECK(message.cm.id == desk.id);
  CHECK(message.cm.initiator_depth == 32);
  CHECK(message.cm.responder_resources == 1);
  CHECK(message.cm.private_data_length == 8);
  CHECK(message.cm.private_data[7] == std::byte{7});
}

TEST_CASE("private data that is not SMB Direct's keeps its length and no more than fits") {
  Desk desk;
  const auto request = desk.request(196);
  Message message;
  REQUIRE(request->prepare(&desk.handover, message));
  CHECK(message.cm.private_data_length == 196);
  CHECK(message.cm.private_data[7] == std::byte{7});
}

TEST_CASE("a request that nobody takes is rejected, wherever it is") {
  Desk desk;
  auto request = desk.request();
  SUBCASE("never offered") {}
  SUBCASE("offered and not taken back") {
    Message message;
    REQUIRE(request->prepare(&desk.handover, message));
  }
  SUBCASE("offered and taken back") {
    Message message;
    REQUIRE(request->prepare(&desk.handover, message));
    CHECK(request->take_back() == TakenBack::ours);
    CHECK(desk.on(desk.listeners));
  }
  SUBCASE("to a pool without verbs") {
    Message message;
    CHECK_FALSE(request->prepare(nullptr, message));
  }
  request.reset();
  CHECK(desk.turned_away());
}

TEST_CASE("what the worker has taken is its own, whether it said so or not") {
  Desk desk;
  auto request = desk.request();
  Message message;
  REQUIRE(request->prepare(&desk.handover, message));
  REQUIRE(desk.worker.migrate(desk.id, desk.handover.fd()));
  SUBCASE("it said TAKE") { request->handed_over(); }
  SUBCASE("it did not answer in time") { CHECK(request->take_back() == TakenBack::workers); }
  SUBCASE("the pool ends meanwhile") {}
  request.reset();
  CHECK(desk.on(desk.worker));
  CHECK_FALSE(desk.turned_away());
}

TEST_CASE("taken back, it goes to another worker, and the first cannot take it any more") {
  Desk desk;
  auto request = desk.request();
  Message message;
  REQUIRE(request->prepare(&desk.handover, message));
  REQUIRE(request->take_back() == TakenBack::ours);
  CHECK(desk.worker.migrate(desk.id, desk.handover.fd()).error().system_errno == EINVAL);
  REQUIRE(request->prepare(&desk.other_handover, message));
  CHECK(desk.on(desk.other_handover));
}

TEST_CASE("a request whose device is gone ends, and its id with it") {
  Desk desk;
  auto request = desk.request();
  Message message;
  REQUIRE(request->prepare(&desk.handover, message));
  desk.kernel.fail_command[RDMA_USER_CM_CMD_MIGRATE_ID] = ENXIO;
  CHECK(request->take_back() == TakenBack::gone);
  CHECK(request->take_back() == TakenBack::gone);
  CHECK(desk.kernel.destroyed.contains(desk.id));
  request.reset();
}
