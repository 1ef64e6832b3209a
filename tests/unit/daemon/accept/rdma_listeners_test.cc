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
