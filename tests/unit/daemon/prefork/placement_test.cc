// SPDX-License-Identifier: MIT
// Which processors workers are put on, on systems whose /sys is a directory of the test's.
#include "daemon/prefork/placement.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <doctest/doctest.h>

using namespace smbdirect::daemon;

namespace {

using Processors = std::vector<unsigned>;

/// Two nodes of four processors; this process may use all but 7. eth0 is on the first, mlx0 on the second,
/// and so is bond0.5, a VLAN on a bond of it; lo and veth0 are on no device.
struct System {
  System() {
    std::string pattern = (std::filesystem::temp_directory_path() / "smbdirectd-sys-XXXXXX").string();
    REQUIRE(mkdtemp(pattern.data()) != nullptr);
    root = pattern;
    device("eth0", "0-3");
    device("mlx0", "4-7");
    below("bond0", "mlx0");
    below("bond0.5", "bond0");
    for (const char* name : {"lo", "veth0"}) std::filesystem::create_directories(root / "class/net" / name);
    placement.sys = root;
    placement.interfaces_of = [](const ListenerConfig& listener) {
      if (listener.address == "0.0.0.0") return std::vector<std::string>{"eth0", "veth0"};
      return listener.address == "192.0.2.9" ? std::vector<std::string>{}
                                             : std::vector<std::string>{listener.address};
    };
    placement.usable = [] { return Processors{0, 1, 2, 3, 4, 5, 6}; };
  }
  ~System() { std::filesystem::remove_all(root); }
  void device(const std::string& name, const std::string& list) const {
    std::filesystem::create_directories(root / "class/net" / name / "device");
    std::ofstream(root / "class/net" / name / "device/local_cpulist") << list << "\n";
  }
  void below(const std::string& name, const std::string& lower) const {
    std::filesystem::create_directories(root / "class/net" / name);
    std::filesystem::create_directory_symlink(root / "class/net" / lower,
                                              root / "class/net" / name / ("lower_" + lower));
  }
  [[nodiscard]] Processors candidates(const std::string& text, const std::vector<std::string>& on) const {
    PoolConfig config;
    config.placement = text;
    for (const std::string& address : on) config.listeners.push_back({.address = address});
    return placement.candidates(config);
  }
  std::filesystem::path root;
  Placement placement;
};

}  // namespace

TEST_CASE("automatic placement is near the listeners' devices, where they say where they are") {
  const System system;
  CHECK(system.candidates("auto", {"eth0"}) == Processors{0, 1, 2, 3});
  CHECK(system.candidates("auto", {"mlx0"}) == Processors{4, 5, 6});
  CHECK(system.candidates("auto", {"bond0.5"}) == Processors{4, 5, 6});
  CHECK(system.candidates("auto", {"eth0", "bond0"}) == Processors{0, 1, 2, 3, 4, 5, 6});
  CHECK(system.candidates("auto", {"0.0.0.0"}) == Processors{0, 1, 2, 3});
  // Nothing is known: any that may be used.
  for (const char* nowhere : {"lo", "veth0", "gone0", "192.0.2.9"})
    CHECK(system.candidates("auto", {nowhere}) == Processors{0, 1, 2, 3, 4, 5, 6});
}

TEST_CASE("a device without a node, as in a guest, is near to all of them") {
  const System system;
  system.device("eth1", "0-7");
  CHECK(system.candidates("auto", {"eth1"}) == Processors{0, 1, 2, 3, 4, 5, 6});
  system.device("eth2", "");
  CHECK(system.candidates("auto", {"eth2"}) == Processors{0, 1, 2, 3, 4, 5, 6});
}

TEST_CASE("interfaces below each other in a circle come to an end") {
  const System system;
  system.below("a", "b");
  system.below("b", "a");
  CHECK(system.candidates("auto", {"a"}) == Processors{0, 1, 2, 3, 4, 5, 6});
}

TEST_CASE("a list is taken as far as it may be used, and none is none") {
  const System system;
  CHECK(system.candidates("2,5-8", {"eth0"}) == Processors{2, 5, 6});
  CHECK(system.candidates("7,100", {"eth0"}).empty());
  CHECK(system.candidates("none", {"eth0"}).empty());
}

TEST_CASE("workers are spread over the candidates") {
  CHECK_FALSE(least_taken({}, {1}));
  CHECK(least_taken({1, 3}, {}) == 1u);
  CHECK(least_taken({1, 3}, {1}) == 3u);
  CHECK(least_taken({1, 3}, {1, 3, 1}) == 3u);
  CHECK(least_taken({1, 3}, {1, 3, 0, 0}) == 1u);
}

TEST_CASE("this host's own interfaces are found by address") {
  const Placement host = Placement::of_this_host();
  CHECK(host.interfaces_of({.address = "127.0.0.1"}) == std::vector<std::string>{"lo"});
  CHECK(host.interfaces_of({.address = "192.0.2.77"}).empty());
  CHECK_FALSE(host.usable().empty());
}
