// SPDX-License-Identifier: MIT
// What each key's change means, by the table of keys: the manual prints the same.
#include "daemon/config/pool_reload.h"

#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "daemon/config/pool_file.h"

using namespace smbdirect::daemon;
using nlohmann::json;

namespace {

const char* const kRunning = R"({"listeners": [{"address": "127.0.0.1"}],
                                 "upstream": {"mode": "connect", "address": "127.0.0.1"}})";

PoolConfig parsed(const std::string& text) {
  auto config = parse_pool(text);
  REQUIRE(config);
  return std::move(*config);
}

/// Values of the key's type, of which at least one is allowed and not what it is now.
std::vector<json> others(const Key& key) {
  switch (key.type) {
    case KeyType::integer:
      return {key.min, key.max, key.min + 1, key.max - 1};
    case KeyType::boolean:
      return {true, false};
    case KeyType::choice:
      return {key.choices.begin(), key.choices.end()};
    case KeyType::address:
      return {"127.0.0.9"};
    case KeyType::networks:
      return {json::array({"127.0.0.0/8"})};
    case KeyType::processors:
      return {"auto"};
    default:
      return {"/elsewhere"};
  }
}

/// The running file with this key changed.
PoolConfig changed(const Key& key) {
  const PoolConfig running = parsed(kRunning);
  for (const json& value : others(key)) {
    json file = json::parse(dump_pool(running));
    file[json::json_pointer(std::string(key.pointer))] = value;
    auto config = parse_pool(file.dump());
    if (config && value_text(key, *config) != value_text(key, running)) return std::move(*config);
  }
  FAIL("no other value of " << key.pointer << " is allowed");
  return running;
}

}  // namespace

TEST_CASE("each key's change is told, with when it applies, and applies then") {
  const PoolConfig running = parsed(kRunning);
  for (const Key& key : pool_keys()) {
    if (key.slot == nullptr || key.pointer.starts_with("/listeners/")) continue;
    INFO(std::string(key.pointer));
    const PoolConfig wanted = changed(key);
    const auto changes = changes_between(running, wanted);
    REQUIRE(changes.size() == 1);
    CHECK(changes[0].pointer == key.pointer);
    CHECK(changes[0].from == value_text(key, running));
    CHECK(changes[0].to == value_text(key, wanted));
    CHECK(changes[0].applies == key.applies);
    const auto merged = after_reload(running, wanted);
    REQUIRE(merged);
    CHECK(value_text(key, *merged) == value_text(key, key.applies == Applies::at_restart ? running : wanted));
    CHECK(changes_between(*merged, wanted).size() == (key.applies == Applies::at_restart ? 1 : 0));
    CHECK(changes_between(running, *merged).size() == (key.applies == Applies::at_restart ? 0 : 1));
  }
}

TEST_CASE(
    "what workers are not given does not replace them, and what they are given does not apply without") {
  for (const Key& key : pool_keys()) {
    if (key.slot == nullptr || key.pointer.starts_with("/listeners/")) continue;
    INFO(std::string(key.pointer));
    if (key.pointer == "/log/level") continue;  // they are told, too
    const bool given = changed(key).worker.to_json() != parsed(kRunning).worker.to_json();
    if (key.applies == Applies::now) CHECK_FALSE(given);
    // Where they run is decided for them, when they are started.
    if (key.applies == Applies::to_workers) CHECK(given == (key.pointer != "/placement"));
  }
}

TEST_CASE("listeners stay until the daemon is restarted, and are told as a whole") {
  const PoolConfig running = parsed(kRunning);
  const PoolConfig wanted =
      parsed(R"({"listeners": [{"address": "127.0.0.1", "port": 445}, {"address": "::1"}],
                                       "upstream": {"mode": "connect", "address": "127.0.0.1"}})");
  const auto changes = changes_between(running, wanted);
  REQUIRE(changes.size() == 1);
  CHECK(changes[0].pointer == "/listeners");
  CHECK(changes[0].applies == Applies::at_restart);
  CHECK(changes[0].to == R"([{"address": "127.0.0.1", "port": 445, "fabric": "iwarp"}, )"
                         R"({"address": "::1", "port": 5445, "fabric": "iwarp"}])");
  const auto merged = after_reload(running, wanted);
  REQUIRE(merged);
  CHECK(merged->listeners.size() == 1);
}

TEST_CASE("a file that is right by itself may be wrong with what stays as it is") {
  // Reachable from elsewhere, so the list of networks is required; the new listener is not, and has none.
  const PoolConfig running = parsed(R"({"listeners": [{"address": "192.0.2.1"}],
      "upstream": {"mode": "connect", "address": "127.0.0.1", "allow": ["192.0.2.0/24"]}})");
  const PoolConfig wanted = parsed(kRunning);
  const auto merged = after_reload(running, wanted);
  REQUIRE_FALSE(merged);
  CHECK(merged.error().front().pointer == "/listeners/0/address");
}

TEST_CASE("what a dump says is a file for every mode") {
  for (const char* mode : {"transparent", "handoff", "connect", "channel"}) {
    INFO(mode);
    const PoolConfig config = parsed(R"({"listeners": [{"address": "127.0.0.1"}], "upstream": {"mode": ")" +
                                     std::string(mode) + R"(", "address": "127.0.0.1"}})");
    CHECK(changes_between(config, parsed(dump_pool(config))).empty());
  }
  const PoolConfig none = parsed(R"({"listeners": [{"address": "127.0.0.1"}], "upstream": {}})");
  CHECK(changes_between(none, parsed(dump_pool(none))).empty());
}
