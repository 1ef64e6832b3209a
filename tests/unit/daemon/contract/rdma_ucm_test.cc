// SPDX-License-Identifier: MIT
// The commands as the kernel would read them, byte by byte from the ABI's own description (linux:
// include/uapi/rdma/rdma_user_cm.h), against a kernel that only records and answers.
#include "daemon/contract/rdma_ucm.h"

#include <cerrno>
#include <cstring>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <rdma/ib_user_verbs.h>

#include "fake_rdma_cm.h"
#include "shm/base/socket_address.h"

using smbdirect::daemon::cm_event_name;
using smbdirect::daemon::CmEventType;
using smbdirect::daemon::CmParameters;
using smbdirect::daemon::RdmaCm;
namespace shm = smbdirect::shm;

namespace {

using namespace rdma_ucm_test;

RdmaCm open_on(Kernel& kernel) {
  auto cm = RdmaCm::open(kernel);
  REQUIRE(cm);
  return std::move(*cm);
}

CmParameters some_parameters() {
  CmParameters p;
  p.qp_num = 0x11223344;
  p.responder_resources = 3;
  p.initiator_depth = 16;
  p.flow_control = 1;
  p.retry_count = 6;
  p.rnr_retry_count = 5;
  p.srq = true;
  p.private_data_length = 2;
  p.private_data[0] = std::byte{0xaa};
  p.private_data[1] = std::byte{0xbb};
  return p;
}

/// struct rdma_ucm_conn_param of the above.
Build& put_parameters(Build& b) {
  return b.u32(0x11223344)
      .u32(0)
      .u8(0xaa)
      .u8(0xbb)
      .zeros(254)
      .u8(2)
      .u8(1)
      .u8(3)
      .u8(16)
      .u8(1)
      .u8(6)
      .u8(5)
      .u8(1);
}

/// struct rdma_ucm_event_resp, its parameters those above.
Bytes event(uint32_t type, uint32_t status, uint32_t id, uint64_t cookie) {
  Build b;
  b.u64(cookie).u32(id).u32(type).u32(status);
  put_parameters(b);
  return b.pad_to(336);
}

sockaddr_storage address(const char* host, uint16_t port) { return *shm::address_from_text(host, port); }

}  // namespace

TEST_CASE("opening") {
  Kernel kernel;
  SUBCASE("names the device") {
    const RdmaCm cm = open_on(kernel);
    CHECK(kernel.opened == "/dev/infiniband/rdma_cm");
    CHECK(cm.fd() >= 0);
  }
  SUBCASE("says what to do when the module is not there") {
    for (const int error : {ENOENT, ENODEV, ENXIO}) {
      kernel.open_error = error;
      const auto cm = RdmaCm::open(kernel);
      REQUIRE_FALSE(cm);
      CHECK(cm.error().system_errno == error);
      CHECK(cm.error().what.find("modprobe rdma_ucm") != std::string::npos);
    }
  }
  SUBCASE("says what to do without permission") {
    kernel.open_error = EACCES;
    const auto cm = RdmaCm::open(kernel);
    REQUIRE_FALSE(cm);
    CHECK(cm.error().text().find("readable and writable") != std::string::npos);
  }
  SUBCASE("any other reason") {
    kernel.open_error = EIO;
    const auto cm = RdmaCm::open(kernel);
    REQUIRE_FALSE(cm);
    CHECK(cm.error().what == "open /dev/infiniband/rdma_cm");
  }
}

TEST_CASE("the commands, byte by byte") {
  Kernel kernel;
  RdmaCm cm = open_on(kernel);
  const auto only = [&]() -> const Bytes& {
    REQUIRE(kernel.commands.size() == 1);
    return kernel.commands[0];
  };
  const auto header = [](uint32_t number, uint16_t in, uint16_t out) {
    return Build().u32(number).u16(in).u16(out);
  };

  SUBCASE("create") {
    kernel.answer = Build().u32(77);
    CHECK(cm.create(0x0102030405060708) == 77u);
    // cookie, response, RDMA_PS_TCP, reliable connection
    CHECK(only() == header(kCreate, 24, 4).u64(0x0102030405060708).u64(0).u16(0x0106).u8(2).zeros(5));
  }
  SUBCASE("bind to IPv4") {
    CHECK(cm.bind(5, address("192.0.2.1", 445)));
    auto expected = header(kBind, 136, 0).u32(5).u16(16).u16(0).u16(2);
    CHECK(only() == expected.u8(445 >> 8).u8(445 & 0xff).u8(192).u8(0).u8(2).u8(1).pad_to(8 + 136));
  }
  SUBCASE("bind to IPv6 forbids IPv4 first") {
    CHECK(cm.bind(5, address("2001:db8::1", 5445)));
    REQUIRE(kernel.commands.size() == 2);
    // value's address, id, RDMA_OPTION_ID, RDMA_OPTION_ID_AFONLY, its size
    CHECK(kernel.commands[0] == header(kSetOption, 24, 0).u64(0).u32(5).u32(0).u32(2).u32(4));
    CHECK(kernel.option == 1);
    auto expected = header(kBind, 136, 0).u32(5).u16(28).u16(0).u16(10).u8(5445 >> 8).u8(5445 & 0xff);
    expected.u32(0).u8(0x20).u8(0x01).u8(0x0d).u8(0xb8).zeros(11).u8(1).pad_to(8 + 136);
    CHECK(kernel.commands[1] == expected);
  }
  SUBCASE("listen") {
    CHECK(cm.listen(5, 128));
    CHECK(only() == header(kListen, 8, 0).u32(5).u32(128));
  }
  SUBCASE("query") {
    auto answer = Build().u64(0x1122334455667788).u8(1).u8(0).u16(0xffff).u16(16).u16(16);
    answer.u16(2).u8(445 >> 8).u8(445 & 0xff).u8(192).u8(0).u8(2).u8(1).zeros(120);
    answer.u16(2).u8(4000 >> 8).u8(4000 & 0xff).u8(192).u8(0).u8(2).u8(7).zeros(120);
    kernel.answer = answer.u32(3).u32(0);
    const auto found = cm.query(5);
    REQUIRE(found);
    CHECK(found->node_guid == 0x1122334455667788);
    CHECK(found->port == 1);
    CHECK(shm::address_text(found->local) == "192.0.2.1:445");
    CHECK(shm::address_text(found->peer) == "192.0.2.7:4000");
    CHECK(only() == header(kQuery, 16, 280).u64(0).u32(5).u32(0));
  }
  SUBCASE("query of an id without a device") {
    const auto found = cm.query(5);
    REQUIRE(found);
    CHECK(found->node_guid == 0);
    CHECK(found->port == 0);
    CHECK(found->local.ss_family == AF_UNSPEC);
  }
  SUBCASE("migrate") {
    CHECK(cm.migrate(5, 9));
    CHECK(only() == header(kMigrate, 16, 4).u64(0).u32(5).u32(9));
  }
  SUBCASE("the queue pair's attributes") {
    Bytes attributes(sizeof(ib_uverbs_qp_attr), 0);
    attributes[0] = 0x39;
    kernel.answer = attributes;
    ib_uverbs_qp_attr found{};
    found.qp_state = 7;  // what was there before goes
    CHECK(cm.qp_attributes(5, 2, found));
    CHECK(found.qp_attr_mask == 0x39);
    CHECK(found.qp_state == 0);
    CHECK(only() == header(kInitQpAttr, 16, 144).u64(0).u32(5).u32(2));
  }
  SUBCASE("accept") {
    CHECK(cm.accept(5, 0xc00c1e, some_parameters()));
    auto expected = header(kAccept, 296, 0).u64(0xc00c1e);
    CHECK(only() == put_parameters(expected).u32(5).u32(0).u32(0).u32(0));
  }
  SUBCASE("reject") {
    CHECK(cm.reject(5));
    CHECK(only() == header(kReject, 264, 0).u32(5).pad_to(8 + 264));
  }
  SUBCASE("disconnect") {
    CHECK(cm.disconnect(5));
    CHECK(only() == header(kDisconnect, 4, 0).u32(5));
  }
  SUBCASE("destroy") {
    CHECK(cm.destroy(5));
    CHECK(only() == header(kDestroy, 16, 4).u64(0).u32(5).u32(0));
  }
  SUBCASE("get an event") {
    kernel.error = EAGAIN;
    const auto none = cm.next_event();
    REQUIRE(none);
    CHECK_FALSE(none->has_value());
    CHECK(only() == header(kGetEvent, 8, 336).u64(0));
  }
}

TEST_CASE("events") {
  Kernel kernel;
  RdmaCm cm = open_on(kernel);
  const auto next = [&] {
    const auto found = cm.next_event();
    REQUIRE(found);
    REQUIRE(found->has_value());
    return **found;
  };

  SUBCASE("a request carries the new id, the listener's cookie and the client's parameters") {
    kernel.answer = event(4, 0, 12, 0xfeed);
    const auto request = next();
    CHECK(request.type == CmEventType::connect_request);
    CHECK(request.status == 0);
    CHECK(request.id == 12);
    CHECK(request.cookie == 0xfeed);
    const CmParameters& p = request.parameters;
    CHECK(p.qp_num == 0x11223344);
    CHECK(p.responder_resources == 3);
    CHECK(p.initiator_depth == 16);
    CHECK(p.flow_control == 1);
    CHECK(p.retry_count == 6);
    CHECK(p.rnr_retry_count == 5);
    CHECK(p.srq);
    REQUIRE(p.private_bytes().size() == 2);
    CHECK(p.private_bytes()[0] == std::byte{0xaa});
    CHECK(p.private_bytes()[1] == std::byte{0xbb});
  }
  SUBCASE("as much private data as the length byte can say") {
    Bytes bytes = event(4, 0, 12, 1);
    bytes[20 + 264] = 255;
    bytes[20 + 8 + 254] = 0xcc;
    kernel.answer = bytes;
    const auto request = next();
    REQUIRE(request.parameters.private_bytes().size() == 255);
    CHECK(request.parameters.private_bytes()[254] == std::byte{0xcc});
  }
  SUBCASE("none") {
    Bytes bytes = event(4, 0, 12, 1);
    bytes[20 + 264] = 0;
    kernel.answer = bytes;
    const auto request = next();
    CHECK(request.parameters.private_bytes().empty());
    CHECK(request.parameters.private_data[0] == std::byte{0});  // beyond the length nothing is taken over
  }
  SUBCASE("a status is signed") {
    kernel.answer = event(1, static_cast<uint32_t>(-ENODEV), 1, 1);
    CHECK(next().status == -ENODEV);
    kernel.answer = event(8, 28, 1, 1);
    CHECK(next().status == 28);
  }
  SUBCASE("every type has its number and name") {
    const std::vector<std::pair<CmEventType, const char*>> types = {
        {CmEventType::addr_resolved, "addr_resolved"},
        {CmEventType::addr_error, "addr_error"},
        {CmEventType::route_resolved, "route_resolved"},
        {CmEventType::route_error, "route_error"},
        {CmEventType::connect_request, "connect_request"},
        {CmEventType::connect_response, "connect_response"},
        {CmEventType::connect_error, "connect_error"},
        {CmEventType::unreachable, "unreachable"},
        {CmEventType::rejected, "rejected"},
        {CmEventType::established, "established"},
        {CmEventType::disconnected, "disconnected"},
        {CmEventType::device_removal, "device_removal"},
        {CmEventType::multicast_join, "multicast_join"},
        {CmEventType::multicast_error, "multicast_error"},
        {CmEventType::addr_change, "addr_change"},
        {CmEventType::timewait_exit, "timewait_exit"},
    };
    REQUIRE(types.size() == smbdirect::daemon::kCmEventTypes);
    for (uint32_t number = 0; number < types.size(); ++number) {
      kernel.answer = event(number, 0, 1, 1);
      CHECK(next().type == types[number].first);
      CHECK(cm_event_name(types[number].first) == types[number].second);
    }
  }
  SUBCASE("a type from a later kernel is unknown, whatever its number") {
    for (const uint32_t number : {16u, 255u, 256u, 260u, 0xffffffffu}) {
      kernel.answer = event(number, 0, 1, 1);
      CHECK(cm_event_name(next().type) == "unknown");
    }
  }
  SUBCASE("an older kernel's shorter answer leaves zeros") {
    Bytes bytes = event(9, 0, 3, 4);
    bytes.resize(20);
    kernel.answer = bytes;
    const auto established = next();
    CHECK(established.type == CmEventType::established);
    CHECK(established.parameters.private_bytes().empty());
  }
}

TEST_CASE("errors name the command, the id and the reason") {
  Kernel kernel;
  RdmaCm cm = open_on(kernel);
  ib_uverbs_qp_attr attributes{};
  const std::map<std::string, std::function<std::optional<shm::Error>()>> calls = {
      {"read an event",
       [&] {
         const auto r = cm.next_event();
         return r ? std::nullopt : std::optional(r.error());
       }},
      {"create an id",
       [&] {
         const auto r = cm.create(1);
         return r ? std::nullopt : std::optional(r.error());
       }},
      {"query the addresses of id 5",
       [&] {
         const auto r = cm.query(5);
         return r ? std::nullopt : std::optional(r.error());
       }},
#define CALL(text, expression)                           \
  {text, [&] {                                           \
     const auto r = expression;                          \
     return r ? std::nullopt : std::optional(r.error()); \
   }}
      CALL("bind an RDMA listener to 192.0.2.1:445", cm.bind(5, address("192.0.2.1", 445))),
      CALL("set IPv6-only of id 5", cm.bind(5, address("::1", 445))),
      CALL("listen of id 5", cm.listen(5, 1)),
      CALL("take over of id 5", cm.migrate(5, 3)),
      CALL("get the queue pair's attributes of id 5", cm.qp_attributes(5, 1, attributes)),
      CALL("accept of id 5", cm.accept(5, 1, {})),
      CALL("reject of id 5", cm.reject(5)),
      CALL("disconnect of id 5", cm.disconnect(5)),
      CALL("destroy of id 5", cm.destroy(5)),
#undef CALL
  };
  for (const auto& [text, call] : calls) {
    CAPTURE(text);
    kernel.error = EINVAL;
    auto error = call();
    REQUIRE(error);
    CHECK(error->system_errno == EINVAL);
    CHECK(error->what.find(text) != std::string::npos);
    // What the cred rule of the kernel answers, or a missing capability.
    kernel.error = EACCES;
    error = call();
    REQUIRE(error);
    CHECK(error->system_errno == EACCES);
    CHECK(error->what.find(text.starts_with("bind") ? "CAP_NET_BIND_SERVICE" : "credentials") !=
          std::string::npos);
    // Half a command is none.
    kernel.error = 0;
    kernel.cut = 1;
    error = call();
    REQUIRE(error);
    CHECK(error->system_errno == EIO);
    kernel.cut = 0;
  }
}

TEST_CASE("binding says why an address does not do") {
  Kernel kernel;
  RdmaCm cm = open_on(kernel);
  const std::map<int, const char*> advice = {{ENODEV, "no RDMA device has this address"},
                                             {EADDRNOTAVAIL, "no network interface"},
                                             {EADDRINUSE, "another program listens there"}};
  for (const auto& [error, text] : advice) {
    kernel.error = error;
    const auto bound = cm.bind(1, address("192.0.2.1", 445));
    REQUIRE_FALSE(bound);
    CHECK(bound.error().what.find(text) != std::string::npos);
  }
}

TEST_CASE("an IPv6 id that cannot be told so is not bound") {
  Kernel kernel;
  RdmaCm cm = open_on(kernel);
  kernel.error = ENOSYS;
  CHECK_FALSE(cm.bind(1, address("::1", 445)));
  CHECK(kernel.commands.size() == 1);
}
