// SPDX-License-Identifier: MIT
// Listeners on RDMA devices that come and go, against a kernel in memory.
#include "daemon/accept/cm_listeners.h"

#include <functional>
#include <memory>
#include <vector>

#include <doctest/doctest.h>

#include "tests/unit/daemon/accept/fake_kernel.h"

using namespace smbdirect::daemon;
namespace shm = smbdirect::shm;

namespace {

struct Desk {
  fake::Kernel kernel;
  PoolConfig config;
  Loop loop;
  std::vector<std::unique_ptr<Incoming>> requests;
  std::vector<std::string> peers;
  std::unique_ptr<CmListeners> listeners;

  explicit Desk(std::vector<ListenerConfig> list) {
    config.listeners = std::move(list);
    listeners = std::make_unique<CmListeners>(
        loop, config,
        [this](std::unique_ptr<Incoming> request, const sockaddr_storage& peer, const sockaddr_storage&) {
          requests.push_back(std::move(request));
          peers.push_back(shm::address_text(peer));
        },
        &kernel);
  }
  ~Desk() {
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

}  // namespace

TEST_CASE("a pool without verbs listeners opens nothing") {
  Desk desk({{"127.0.0.1", 5445, Fabric::iwarp}});
  CHECK(desk.listeners->bind());
  CHECK(desk.listeners->listen());
  CHECK(desk.listeners->texts().empty());
  CHECK(desk.kernel.ids.empty());
}

TEST_CASE("bound first, listening when told, and requests come in") {
  Desk desk({kOne});
  desk.kernel.devices = {"192.0.2.1:445"};
  REQUIRE(desk.listeners->bind());
  CHECK(desk.kernel.ids.size() == 1);
  CHECK(desk.listening() == 0);
  REQUIRE(desk.listeners->listen());
  CHECK(desk.listening() == 1);
  CHECK(desk.listeners->texts() == std::vector<std::string>{"192.0.2.1 port 445 (verbs)"});
  desk.kernel.request("192.0.2.7");
  desk.until([&] { return !desk.requests.empty(); });
  CHECK(desk.peers == std::vector<std::string>{"192.0.2.7:40000"});
}

TEST_CASE("held listeners leave requests in the kernel") {
  Desk desk({kOne});
  desk.kernel.devices = {"192.0.2.1:445"};
  REQUIRE(desk.listeners->bind());
  desk.listeners->hold(true);
  REQUIRE(desk.listeners->listen());
  desk.kernel.request("192.0.2.7");
  uv_run(desk.loop.get(), UV_RUN_NOWAIT);
  uv_run(desk.loop.get(), UV_RUN_NOWAIT);
  CHECK(desk.requests.empty());
  desk.listeners->hold(false);
  desk.until([&] { return !desk.requests.empty(); });
}

TEST_CASE("a listener waits for its device, the others do not") {
  Desk desk({kOne, {"192.0.2.2", 5445, Fabric::verbs}});
  desk.kernel.devices = {"192.0.2.2:5445"};
  REQUIRE(desk.listeners->bind());
  REQUIRE(desk.listeners->listen());
  CHECK(desk.listening() == 1);
  CHECK(desk.listeners->texts().front() == "192.0.2.1 port 445 (verbs), waiting for its device");
  desk.kernel.devices.insert("192.0.2.1:445");
  desk.until([&] { return desk.listening() == 2; });
  CHECK(desk.listeners->texts().front() == "192.0.2.1 port 445 (verbs)");
}

TEST_CASE("a listener comes back with its device, and follows an address that moves") {
  Desk desk({kOne});
  desk.kernel.devices = {"192.0.2.1:445"};
  REQUIRE(desk.listeners->bind());
  REQUIRE(desk.listeners->listen());
  const uint32_t first = desk.kernel.ids.begin()->first;
  SUBCASE("removal") {
    desk.kernel.devices.clear();
    desk.kernel.strike(CmEventType::device_removal);
    desk.until([&] { return desk.listening() == 0; });
    CHECK(desk.kernel.destroyed.contains(first));
    desk.kernel.devices = {"192.0.2.1:445"};
  }
  SUBCASE("address change") { desk.kernel.strike(CmEventType::addr_change); }
  desk.until([&] { return desk.listening() == 1 && !desk.kernel.ids.contains(first); });
  CHECK(desk.kernel.ids.begin()->first != first);
}

TEST_CASE("errors that no device will heal stop the start, and say what to do") {
  Desk desk({kOne});
  desk.kernel.devices = {"192.0.2.1:445"};
  SUBCASE("bind") {
    desk.kernel.fail_command[RDMA_USER_CM_CMD_BIND] = EADDRINUSE;
    const auto bound = desk.listeners->bind();
    REQUIRE_FALSE(bound);
    CHECK(bound.error().text().find("192.0.2.1 port 445 (verbs)") != std::string::npos);
    CHECK(bound.error().text().find("rdma resource") != std::string::npos);
  }
  SUBCASE("no id") {
    desk.kernel.fail_command[RDMA_USER_CM_CMD_CREATE_ID] = EACCES;
    CHECK_FALSE(desk.listeners->bind());
  }
  SUBCASE("listen") {
    REQUIRE(desk.listeners->bind());
    desk.kernel.fail_command[RDMA_USER_CM_CMD_LISTEN] = EADDRINUSE;
    CHECK_FALSE(desk.listeners->listen());
  }
}

TEST_CASE("a request whose path belies the address that it claims is turned away") {
  Desk desk({kOne});
  desk.kernel.devices = {"192.0.2.1:445"};
  REQUIRE(desk.listeners->bind());
  REQUIRE(desk.listeners->listen());
  const uint32_t lie = desk.kernel.request("192.0.2.8", 0, "192.0.2.7");
  desk.kernel.request("192.0.2.7", 0, "192.0.2.7");
  desk.until([&] { return !desk.requests.empty(); });
  CHECK(desk.peers == std::vector<std::string>{"192.0.2.7:40000"});
  REQUIRE(desk.kernel.destroyed.contains(lie));
  CHECK(desk.kernel.destroyed.at(lie).rejected);
}
