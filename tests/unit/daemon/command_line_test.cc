// SPDX-License-Identifier: MIT
// smbdirectd's command lines that end by themselves: texts and exit statuses.
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <unistd.h>

#include <doctest/doctest.h>

#include "tests/unit/daemon/pool_process.h"

using test::run_daemon;

namespace {

struct File {
  std::string path = (std::filesystem::temp_directory_path() / "smbdirectd-pool-XXXXXX").string();
  explicit File(const std::string& text) {
    const int fd = mkstemp(path.data());
    REQUIRE(fd >= 0);
    close(fd);
    std::ofstream(path) << text;
  }
  ~File() { std::filesystem::remove(path); }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
};

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

constexpr const char* kGood =
    R"({ "listeners": [ { "address": "127.0.0.1", "port": 0 } ], "upstream": { "mode": "connect", "address": "127.0.0.1" } })";

}  // namespace

TEST_CASE("help and version") {
  const auto help = run_daemon({"--help"});
  CHECK(help.status == 0);
  CHECK(has(help.output, "--check-config"));
  const auto version = run_daemon({"-V"});
  CHECK(version.status == 0);
  CHECK(version.output.starts_with("smbdirectd "));
}

TEST_CASE("a wrong command line ends with 2") {
  for (const char* word : {"--bogus", "-x", "-s", "extra"}) {
    const auto result = run_daemon({word});
    CHECK(result.status == 2);
    CHECK(has(result.output, "smbdirectd --help"));
  }
}

TEST_CASE("--check-config says ok, or everything that is wrong") {
  const File good(kGood);
  const auto ok = run_daemon({"-s", good.path, "--check-config"});
  CHECK(ok.status == 0);
  CHECK(ok.output == good.path + ": ok\n");
  const File wrong(
      "{ \"workers\": 0,\n \"listeners\": [ { \"address\": \"0.0.0.0\" } ],\n \"upstream\": { \"port\": 0 } "
      "}");
  const auto result = run_daemon({"-s", wrong.path, "--check-config"});
  CHECK(result.status == 2);
  CHECK(has(result.output, wrong.path + ":1: /workers is 0; allowed: an integer from 1 to 64 or \"auto\"\n"));
  CHECK(has(result.output, wrong.path + ":3: /upstream/port is 0"));
  const auto missing = run_daemon({"-s", "/nonexistent", "--check-config"});
  CHECK(missing.status == 2);
  CHECK(has(missing.output, "/nonexistent: cannot be read: No such file or directory"));
}

TEST_CASE("a listener that others reach needs to know whom to let in") {
  const File open_to_all(
      R"({ "listeners": [ { "address": "0.0.0.0" } ], "upstream": { "mode": "connect", "address": "127.0.0.1" } })");
  const auto result = run_daemon({"-s", open_to_all.path});
  CHECK(result.status == 2);
  CHECK(has(result.output, "add the networks of your clients, such as \"upstream\": { \"allow\": "));
}

TEST_CASE("--dump-config prints a pool file") {
  const File good(kGood);
  const auto dump = run_daemon({"-s", good.path, "--dump-config"});
  CHECK(dump.status == 0);
  const File again(dump.output);
  CHECK(run_daemon({"-s", again.path, "--dump-config"}).output == dump.output);
}

TEST_CASE("what can be known to be wrong is known before a worker starts") {
  const File good(kGood);
  const auto worker = run_daemon({"-s", good.path, "--worker", "/nonexistent/worker"});
  CHECK(worker.status == 3);
  CHECK(has(worker.output, "worker program '/nonexistent/worker' cannot be executed"));
  const auto ready = run_daemon({"-s", good.path, "--worker", "/bin/true", "--ready-fd", "77"});
  CHECK(ready.status == 2);
  CHECK(has(ready.output, "--ready-fd 77 is not an open descriptor"));
  const File stranger(
      R"({ "user": "no-such-user", "listeners": [ { "address": "127.0.0.1" } ], "upstream": { "mode": "connect", "address": "::1" } })");
  const auto user = run_daemon({"-s", stranger.path, "--check-config"});
  CHECK(user.status == 2);
  CHECK(has(user.output, "/user is \"no-such-user\", which this system does not know"));
}

TEST_CASE("a program that is no executable is told with its reason, and the pool gives up in time") {
  const File script("not a program");
  std::filesystem::permissions(script.path, std::filesystem::perms::owner_all);
  const File pool(R"({ "workers": 1, "listeners": [ { "address": "127.0.0.1", "port": 0 } ],
    "upstream": { "mode": "connect", "address": "127.0.0.1" }, "restart": { "ready_timeout_ms": 200 } })");
  const auto result = run_daemon({"-s", pool.path, "--worker", script.path});
  CHECK(result.status == 3);
  CHECK(has(result.output, "cannot start '" + script.path + "': Exec format error"));
  CHECK(has(result.output, "no worker was ready within 200 ms"));
}
