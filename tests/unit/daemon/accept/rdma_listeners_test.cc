// SPDX-License-Identifier: MIT
// Listeners on RDMA devices that come and go, against a kernel in memory.
#include "daemon/accept/rdma_listeners.h"

#include <functional>
#include <memory>
#include <vector>

#include <doctest/doctest.h>

#include "tests/unit/daemon/accept/fake_kernel.h"

using namespace smbdirect::daemon;
namespace shm = smbdirect::shm;

namespace {

struct Rig {
  fake::Kernel kernel;
  PoolConfig config;
  shm::Loop loop;
  std::vector<std::unique_ptr<Incoming>> requests;
  std::vector<std::string> peers;
  std::unique_ptr<RdmaListeners> listeners;

  explicit Rig(std::vector<ListenerConfig> list) {
    config.listeners = std::move(list);
    listeners = std::make_unique<RdmaListeners>(
        loop, config,
        [this](std::unique_ptr<Incoming> request, const sockaddr_storage& peer, const sockaddr_storage&) {
          requests.push_back(std::move(request));
          peers.push_back(shm::address_text(peer));
        },
        &kernel);
  }
  ~Rig() {
    requests.clear();
    listeners.reset();
  }
  [[nodiscard]] size_t listening() const {
    size_t count = 0;
    for (const auto& [id, facts] : kernel.ids) count += facts.listening ? 1 : 0;
    return count;
  }
  /// Runs the loop until it holds; the test's own time limit is the bound.
  void until(const std::function<bool()>& holds) {
    while (!holds()) uv_run(loop.get(), UV_RUN_ONCE);
  }
};

const ListenerConfig kOne{"192.0.2.1", 445, Fabric::verbs};

/// Two supervisors at one kernel: the second is taking the first one's listeners over.
struct TakeOver {
  fake::Kernel kernel;
  PoolConfig config;
  shm::Loop loop;
  std::vector<std::unique_ptr<Incoming>> at_former, at_new;
  RdmaListeners former, successor;

  explicit TakeOver(std::vector<ListenerConfig> list)
      : config(pool(std::move(list))),
        former(loop, config, into(at_former), &kernel),
        successor(loop, config, into(at_new), &kernel) {
    kernel.devices = {"192.0.2.1:445", "192.0.2.2:5445"};
    REQUIRE(former.bind());
    REQUIRE(former.listen());
    REQUIRE(successor.bind(former.configured(), former.file_copy()));
  }
  ~TakeOver() {
    at_former.clear();
    at_new.clear();
    former.close();
    successor.close();
  }
  static PoolConfig pool(std::vector<ListenerConfig> list) {
    PoolConfig config;
    config.listeners = std::move(list);
    return config;
  }
  static RdmaListeners::Requested into(std::vector<std::unique_ptr<Incoming>>& requests) {
    return [&requests](std::unique_ptr<Incoming> request, const sockaddr_storage&, const sockaddr_storage&) {
      requests.push_back(std::move(request));
    };
  }
  void pause_former() {
    former.hold(true);
    former.pause(true);
  }
  void until(const std::function<bool()>& holds) {
    while (!holds()) uv_run(loop.get(), UV_RUN_ONCE);
  }
  /// What is due now, and what that leads to.
  void settle() {
    for (int i = 0; i < 5; ++i) uv_run(loop.get(), UV_RUN_NOWAIT);
  }
};

}  // namespace

TEST_CASE("a pool without verbs listeners opens nothing") {
  Rig rig({{"127.0.0.1", 5445, Fabric::iwarp}});
  CHECK(rig.listeners->bind());
  CHECK(rig.listeners->listen());
  CHECK(rig.listeners->texts().empty());
  CHECK(rig.kernel.ids.empty());
}

TEST_CASE("bound first, listening when told, and requests come in") {
  Rig rig({kOne});
  rig.kernel.devices = {"192.0.2.1:445"};
  REQUIRE(rig.listeners->bind());
  CHECK(rig.kernel.ids.size() == 1);
  CHECK(rig.listening() == 0);
  REQUIRE(rig.listeners->listen());
  CHECK(rig.listening() == 1);
  CHECK(rig.listeners->texts() == std::vector<std::string>{"192.0.2.1 port 445 (verbs)"});
  rig.kernel.request("192.0.2.7");
  rig.until([&] { return !rig.requests.empty(); });
  CHECK(rig.peers == std::vector<std::string>{"192.0.2.7:40000"});
}

TEST_CASE("held listeners leave requests in the kernel") {
  Rig rig({kOne});
  rig.kernel.devices = {"192.0.2.1:445"};
  REQUIRE(rig.listeners->bind());
  rig.listeners->hold(true);
  REQUIRE(rig.listeners->listen());
  rig.kernel.request("192.0.2.7");
  uv_run(rig.loop.get(), UV_RUN_NOWAIT);
  uv_run(rig.loop.get(), UV_RUN_NOWAIT);
  CHECK(rig.requests.empty());
  rig.listeners->hold(false);
  rig.until([&] { return !rig.requests.empty(); });
}

TEST_CASE("a listener waits for its device, the others do not") {
  Rig rig({kOne, {"192.0.2.2", 5445, Fabric::verbs}});
  rig.kernel.devices = {"192.0.2.2:5445"};
  REQUIRE(rig.listeners->bind());
  REQUIRE(rig.listeners->listen());
  CHECK(rig.listening() == 1);
  CHECK(rig.listeners->texts().front() == "192.0.2.1 port 445 (verbs), waiting for its device");
  rig.kernel.devices.insert("192.0.2.1:445");
  rig.until([&] { return rig.listening() == 2; });
  CHECK(rig.listeners->texts().front() == "192.0.2.1 port 445 (verbs)");
}

TEST_CASE("a listener waits for an address that no interface has, at the start and later") {
  Rig rig({kOne, {"192.0.2.2", 5445, Fabric::verbs}});
  rig.kernel.devices = {"192.0.2.1:445", "192.0.2.2:5445"};
  rig.kernel.absent = {"192.0.2.1:445"};
  REQUIRE(rig.listeners->bind());
  REQUIRE(rig.listeners->listen());
  CHECK(rig.listening() == 1);
  CHECK(rig.listeners->texts() ==
        std::vector<std::string>{"192.0.2.1 port 445 (verbs), waiting for its address",
                                 "192.0.2.2 port 5445 (verbs)"});
  rig.kernel.absent.clear();
  rig.until([&] { return rig.listening() == 2; });
  CHECK(rig.listeners->texts().front() == "192.0.2.1 port 445 (verbs)");
  // Gone with its device, and then from the host.
  rig.kernel.devices.clear();
  rig.kernel.absent = {"192.0.2.1:445"};
  rig.kernel.strike(CmEventType::device_removal);
  rig.until([&] {
    return rig.listeners->texts().front() == "192.0.2.1 port 445 (verbs), waiting for its address";
  });
}

TEST_CASE("a listener comes back with its device, and follows an address that moves") {
  Rig rig({kOne});
  rig.kernel.devices = {"192.0.2.1:445"};
  REQUIRE(rig.listeners->bind());
  REQUIRE(rig.listeners->listen());
  const uint32_t first = rig.kernel.ids.begin()->first;
  SUBCASE("removal") {
    rig.kernel.devices.clear();
    rig.kernel.strike(CmEventType::device_removal);
    rig.until([&] { return rig.listening() == 0; });
    CHECK(rig.kernel.destroyed.contains(first));
    rig.kernel.devices = {"192.0.2.1:445"};
  }
  SUBCASE("address change") { rig.kernel.strike(CmEventType::addr_change); }
  rig.until([&] { return rig.listening() == 1 && !rig.kernel.ids.contains(first); });
  CHECK(rig.kernel.ids.begin()->first != first);
}

TEST_CASE("errors that no device will heal stop the start, and say what to do") {
  Rig rig({kOne});
  rig.kernel.devices = {"192.0.2.1:445"};
  SUBCASE("bind") {
    rig.kernel.fail_command[RDMA_USER_CM_CMD_BIND] = EADDRINUSE;
    const auto bound = rig.listeners->bind();
    REQUIRE_FALSE(bound);
    CHECK(bound.error().text().find("192.0.2.1 port 445 (verbs)") != std::string::npos);
    CHECK(bound.error().text().find("rdma resource") != std::string::npos);
  }
  SUBCASE("no id") {
    rig.kernel.fail_command[RDMA_USER_CM_CMD_CREATE_ID] = EACCES;
    CHECK_FALSE(rig.listeners->bind());
  }
  SUBCASE("listen") {
    REQUIRE(rig.listeners->bind());
    rig.kernel.fail_command[RDMA_USER_CM_CMD_LISTEN] = EADDRINUSE;
    CHECK_FALSE(rig.listeners->listen());
  }
}

TEST_CASE("a request whose path belies the address that it claims is turned away") {
  Rig rig({kOne});
  rig.kernel.devices = {"192.0.2.1:445"};
  REQUIRE(rig.listeners->bind());
  REQUIRE(rig.listeners->listen());
  const uint32_t lie = rig.kernel.request("192.0.2.8", 0, "192.0.2.7");
  rig.kernel.request("192.0.2.7", 0, "192.0.2.7");
  rig.until([&] { return !rig.requests.empty(); });
  CHECK(rig.peers == std::vector<std::string>{"192.0.2.7:40000"});
  REQUIRE(rig.kernel.destroyed.contains(lie));
  CHECK(rig.kernel.destroyed.at(lie).rejected);
}

TEST_CASE("a successor makes no listener of its own before the former one's ids move") {
  TakeOver both({kOne});
  CHECK(both.kernel.ids.size() == 1);
  both.kernel.request("192.0.2.7");
  both.until([&] { return both.at_former.size() == 1; });
}

TEST_CASE(
    "listening ids move, with the requests that nobody has read, and the former one's end costs nothing") {
  TakeOver both({kOne, {"192.0.2.2", 5445, Fabric::verbs}});
  const auto ids = both.former.ids();
  REQUIRE(ids.size() == 2);
  both.pause_former();
  const uint32_t early = both.kernel.request("192.0.2.7");
  REQUIRE(both.successor.adopt(ids));
  REQUIRE(both.successor.listen());
  const uint32_t late = both.kernel.request("192.0.2.8");
  both.until([&] { return both.at_new.size() == 2; });
  CHECK(both.at_former.empty());
  // Each request is on the file of the one that has it: it can be handed to a worker.
  CHECK(both.kernel.ids.at(early).file == both.kernel.ids.at(late).file);
  both.former.close();
  CHECK(both.successor.ids() == ids);
  for (const RdmaListenerId& one : ids) CHECK(both.kernel.ids.contains(one.id));
  CHECK(both.successor.texts() ==
        std::vector<std::string>{"192.0.2.1 port 445 (verbs)", "192.0.2.2 port 5445 (verbs)"});
}

TEST_CASE("a request that ended on the way is no trouble") {
  TakeOver both({kOne});
  both.pause_former();
  const uint32_t early = both.kernel.request("192.0.2.7");
  REQUIRE(both.successor.adopt(both.former.ids()));
  both.kernel.ids.erase(early);
  REQUIRE(both.successor.listen());
  both.kernel.request("192.0.2.8");
  both.until([&] { return both.at_new.size() == 1; });
  both.settle();
  CHECK(both.at_new.size() == 1);
}

TEST_CASE("ids that have moved are taken back, with their requests, from a successor that fails") {
  TakeOver both({kOne, {"192.0.2.2", 5445, Fabric::verbs}});
  const auto ids = both.former.ids();
  both.pause_former();
  SUBCASE("all had moved") { REQUIRE(both.successor.adopt(ids)); }
  SUBCASE("one had moved") { REQUIRE(both.successor.adopt({ids.front()})); }
  SUBCASE("none had moved") {}
  const uint32_t meanwhile = both.kernel.request("192.0.2.7");
  shm::UniqueFd its_file = both.successor.file_copy();
  both.successor.close();  // its process ends; the copy keeps its file
  for (const RdmaListenerId& one : ids) REQUIRE(both.kernel.ids.contains(one.id));
  REQUIRE(both.former.take_back(ids, std::move(its_file)));
  both.former.pause(false);
  both.former.hold(false);
  both.until([&] { return both.at_former.size() == 1; });
  CHECK(both.kernel.ids.at(meanwhile).file == both.kernel.ids.at(ids.front().id).file);
  CHECK(both.kernel.ids.at(ids.front().id).file == both.kernel.ids.at(ids.back().id).file);
  CHECK(both.former.ids() == ids);
}

TEST_CASE("a listener that the successor does not want ends with the former one") {
  TakeOver both({kOne, {"192.0.2.2", 5445, Fabric::verbs}});
  PoolConfig fewer = TakeOver::pool({kOne});
  RdmaListeners one(both.loop, fewer, TakeOver::into(both.at_new), &both.kernel);
  REQUIRE(one.bind(both.former.configured(), both.former.file_copy()));
  const auto ids = both.former.ids();
  both.pause_former();
  REQUIRE(one.adopt(ids));
  REQUIRE(one.listen());
  both.former.close();
  CHECK(both.kernel.ids.contains(ids.front().id));
  CHECK(both.kernel.destroyed.contains(ids.back().id));
  one.close();
}

TEST_CASE("a listener whose device is gone is made by the successor when it comes back") {
  TakeOver both({kOne});
  const auto ids = both.former.ids();
  both.kernel.devices.clear();
  both.kernel.strike(CmEventType::device_removal);
  both.until([&] { return both.kernel.destroyed.contains(ids.front().id); });
  both.pause_former();
  REQUIRE(both.successor.adopt(both.former.ids()));
  REQUIRE(both.successor.listen());
  both.former.close();
  both.kernel.devices = {"192.0.2.1:445"};
  both.until([&] { return !both.successor.ids().empty(); });
  both.kernel.request("192.0.2.7");
  both.until([&] { return both.at_new.size() == 1; });
}
