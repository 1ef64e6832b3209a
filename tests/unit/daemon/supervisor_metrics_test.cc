// SPDX-License-Identifier: MIT
// What a running daemon answers and what metrics are made of are the same figures. With fake workers, on
// loopback.
#include <algorithm>
#include <csignal>
#include <set>
#include <string>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "daemon/ctl/metrics/families.h"
#include "daemon/ctl/metrics/metric_table.h"
#include "tests/unit/daemon/pool_process.h"

using namespace smbdirect::daemon::metrics;
using nlohmann::json;
using test::PoolProcess;

namespace {

/// What is no metric: it names something, or counts what is counted elsewhere.
const std::set<std::string> kOthers{"pid",  "main_process", "draining_former_pid",
                                    "slot", "generation",   "leaving"};

void check_each(const json& object, Source source) {
  const auto rows = metric_table();
  for (const auto& [name, value] : object.items()) {
    if (value.is_string() || kOthers.contains(name)) continue;
    const bool known = std::ranges::any_of(
        rows, [&](const MetricRow& row) { return row.source == source && row.member == name; });
    CHECK_MESSAGE(known, name << " is no metric: add a row to metric_table.cc");
  }
}

}  // namespace

TEST_CASE("every figure of status and workers is a metric, and there is no metric of anything else") {
  const PoolProcess pool({.workers = 2});
  pool.wait_log("is ready after", 2);
  const std::string status = pool.ask(R"({"command": "status"})");
  const std::string workers = pool.ask(R"({"command": "workers"})");
  const json pool_wide = json::parse(status)["status"];
  check_each(pool_wide, Source::status);
  const json first = json::parse(workers)["workers"][0];
  check_each(first, Source::worker);
  for (const MetricRow& row : metric_table()) {
    if (row.source == Source::asking || row.help.starts_with("Mode channel")) continue;
    INFO(row.name);
    const json& object = row.source == Source::status ? pool_wide : first;
    CHECK(object.contains(row.member));
  }
  CHECK(families(status, workers));
}

TEST_CASE("a worker that dies is lost, and one that drains or is no longer wanted is not") {
  const PoolProcess pool({.workers = 3});
  pool.wait_log("is ready after", 3);
  const auto total = [&](const char* name) {
    return json::parse(pool.ask(R"({"command": "status"})"))["status"][name].get<int>();
  };
  CHECK(total("workers_started") == 3);
  CHECK(total("workers_lost") == 0);
  CHECK(pool.ask(R"({"command": "resize", "argument": "2"})").contains("\"workers\":2"));
  pool.wait_log("ended with exit status 0");
  CHECK(total("workers_lost") == 0);
  kill(pool.worker(0), SIGKILL);
  pool.wait_log("was killed by signal 9");
  pool.wait_log("is ready after", 4);
  CHECK(total("workers_lost") == 1);
  CHECK(total("workers_started") == 4);
}
