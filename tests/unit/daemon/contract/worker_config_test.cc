// SPDX-License-Identifier: MIT
#include "daemon/contract/worker_config.h"

#include <cstdint>
#include <string>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "shm/base/log.h"

using smbdirect::daemon::WorkerConfig;
namespace shm = smbdirect::shm;

TEST_CASE("a worker's configuration travels whole") {
  WorkerConfig config;
  config.log_level = shm::log::Level::debug;
  config.user = "näme \"quoted\"";
  config.upstream_address = "::1";
  config.upstream_port = 1445;
  config.iwarp_crc = false;
  config.buffered_bytes_per_worker = uint64_t{1} << 40;
  const std::string text = config.to_json();
  const auto copy = WorkerConfig::from_json(text);
  REQUIRE(copy);
  CHECK(copy->to_json() == text);
  CHECK(copy->user == config.user);
  CHECK(copy->log_level == config.log_level);
  CHECK(copy->iwarp_crc == false);
  CHECK(copy->buffered_bytes_per_worker == config.buffered_bytes_per_worker);
}

TEST_CASE("a configuration with anything missing, added or of another kind is refused") {
  const auto good = nlohmann::json::parse(WorkerConfig{}.to_json());
  REQUIRE(WorkerConfig::from_json(good.dump()));
  for (const auto& [name, value] : good.items()) {
    INFO(name);
    auto missing = good;
    missing.erase(name);
    const auto refused = WorkerConfig::from_json(missing.dump());
    REQUIRE_FALSE(refused);
    CHECK(refused.error().what.find(name + " is missing") != std::string::npos);
    auto wrong = good;
    wrong[name] = nlohmann::json::array();
    CHECK(WorkerConfig::from_json(wrong.dump()).error().what.find(name) != std::string::npos);
    if (value.is_number()) {
      wrong[name] = -1;
      CHECK_FALSE(WorkerConfig::from_json(wrong.dump()));
      wrong[name] = 1e30;
      CHECK_FALSE(WorkerConfig::from_json(wrong.dump()));
    }
  }
  auto more = good;
  more["extra"] = 1;
  CHECK_FALSE(WorkerConfig::from_json(more.dump()));
  auto large = good;
  large["upstream_port"] = 65536;
  CHECK_FALSE(WorkerConfig::from_json(large.dump()));
  for (const char* text : {"", "[]", "{", "null", "\"x\""}) CHECK_FALSE(WorkerConfig::from_json(text));
}
