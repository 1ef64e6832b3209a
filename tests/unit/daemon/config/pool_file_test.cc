// SPDX-License-Identifier: MIT
#include "daemon/config/pool_file.h"

#include <fstream>
#include <sched.h>
#include <string>
#include <unistd.h>
#include <vector>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "daemon/config/placement_text.h"
#include "daemon/config/pool_keys.h"

using namespace smbdirect::daemon;

namespace {

constexpr const char* kListeners = R"("listeners": [{"address": "127.0.0.1"}])";
constexpr const char* kUpstream = R"("upstream": {"mode": "connect", "address": "127.0.0.1"})";

/// A valid file around the text, which is on line 2.
std::string around(const std::string& text) {
  return std::string("{") + kListeners + ", " + kUpstream + ",\n" + text + "\n}";
}
std::string upstream(const std::string& text) {
  return std::string("{") + kListeners + ",\n\"upstream\": {\"address\": \"127.0.0.1\",\n" + text + "\n}}";
}
std::string listeners(const std::string& text) {
  return std::string("{") + kUpstream + ",\n\"listeners\": [\n" + text + "\n]}";
}

struct Wrong {
  std::string text;
  const char* pointer;
  uint32_t line;
  const char* says;
};

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("the smallest file, and comments") {
  const auto config = parse_pool(
      "// first\n{ /* a */ \"listeners\": [ // b\n {\"address\": \"::1\"} ],\n"
      "\"upstream\": {\"address\": \"127.0.0.1\"} }\n");
  REQUIRE(config);
  CHECK(config->listeners.size() == 1);
  CHECK(config->listeners[0].address == "::1");
  CHECK(config->listeners[0].port == 5445);
  CHECK(config->worker.upstream_address == "127.0.0.1");
}

TEST_CASE("as many workers as there are processors for the daemon") {
  cpu_set_t before, one;
  REQUIRE(sched_getaffinity(0, sizeof before, &before) == 0);
  CPU_ZERO(&one);
  for (int cpu = 0; CPU_COUNT(&one) == 0; ++cpu)
    if (CPU_ISSET(cpu, &before)) CPU_SET(cpu, &one);
  for (const cpu_set_t& usable : {one, before}) {
    REQUIRE(sched_setaffinity(0, sizeof usable, &usable) == 0);
    const auto config = parse_pool(around("\"workers\": \"auto\""));
    REQUIRE(config);
    CHECK(config->workers == std::min<uint32_t>(64, uint32_t(CPU_COUNT(&usable))));
  }
  CHECK_FALSE(parse_pool(around("\"workers\": \"Auto\"")));
  CHECK_FALSE(parse_pool(around("\"limits\": {\"connections\": \"auto\"}")));
}

TEST_CASE("a placement is none, automatic, or a list as the kernel writes it") {
  CHECK(parse_processor_list("0") == std::vector<unsigned>{0});
  CHECK(parse_processor_list("8,0-3,2") == std::vector<unsigned>{0, 1, 2, 3, 8});
  CHECK(parse_processor_list("1023") == std::vector<unsigned>{1023});
  for (const char* text : {"", ",", "0,", ",0", "3-1", "-1", "1-", "a", "0 1", "1024", "0-1024", "0x1",
                           "99999999999", "None", "all"}) {
    CAPTURE(text);
    CHECK_FALSE(parse_processor_list(text));
    CHECK_FALSE(is_placement(text));
    CHECK_FALSE(parse_pool(around("\"placement\": \"" + std::string(text) + "\"")));
  }
  CHECK_FALSE(parse_pool(around("\"placement\": 0")));
  CHECK_FALSE(parse_pool(around("\"placement\": [0, 1]")));
}

TEST_CASE("every key is read into its place, and a dump reads back the same") {
  // Every integer at its bounds, every choice, in one file each.
  for (const Key& key : pool_keys()) {
    INFO(std::string(key.pointer));
    if (key.slot == nullptr || key.type == KeyType::address) continue;
    std::vector<nlohmann::json> values;
    if (key.type == KeyType::integer) values = {key.min, key.max};
    if (key.type == KeyType::boolean) values = {true, false};
    if (key.type == KeyType::text) values = {"someone"};
    if (key.type == KeyType::processors) values = {"none", "auto", "0", "0-3,8"};
    if (key.type == KeyType::networks) values = {nlohmann::json::array({"127.0.0.0/8", "::1/128"})};
    for (const auto& choice : key.choices) values.emplace_back(choice);
    REQUIRE_FALSE(values.empty());
    for (const auto& value : values) {
      auto json = nlohmann::json::parse("{" + std::string(kListeners) + "," + kUpstream + "}");
      std::string pointer(key.pointer);
      if (const size_t star = pointer.find('*'); star != std::string::npos) pointer[star] = '0';
      json[nlohmann::json::json_pointer(pointer)] = value;
      // Companions that rules between keys ask for.
      if (key.pointer == "/smbdirect/receive_credit_max") json["smbdirect"]["receive_credit_initial"] = 1;
      if (key.pointer == "/smbdirect/receive_credit_initial") json["smbdirect"]["receive_credit_max"] = 65535;
      if (key.pointer == "/limits/buffered_bytes_per_connection") {
        json["limits"]["buffered_bytes_per_worker"] = uint64_t{1} << 44;
      }
      if (key.pointer == "/limits/buffered_bytes_per_worker") {
        json["limits"]["buffered_bytes_per_connection"] = 1 << 20;
      }
      if (key.pointer == "/restart/backoff_increment_s") json["restart"]["maximum_backoff_s"] = 86400;
      if (key.pointer == "/restart/maximum_backoff_s") json["restart"]["backoff_increment_s"] = 0;
      if (key.pointer == "/restart/ping_interval_ms") json["restart"]["ping_timeout_ms"] = 3'600'000;
      if (key.pointer == "/restart/ping_timeout_ms") json["restart"]["ping_interval_ms"] = 10;
      const auto config = parse_pool(json.dump());
      REQUIRE_MESSAGE(config, problem_text("file", config.error().front()));
      CHECK(nlohmann::json::parse(value_text(key, *config)) == value);
      const std::string dump = dump_pool(*config);
      const auto again = parse_pool(dump);
      REQUIRE(again);
      CHECK(dump_pool(*again) == dump);
      CHECK(nlohmann::json::parse(dump)[nlohmann::json::json_pointer(pointer)] == value);
    }
    if (key.type == KeyType::integer && key.max < UINT64_MAX) {
      auto json = nlohmann::json::parse("{" + std::string(kListeners) + "," + kUpstream + "}");
      std::string pointer(key.pointer);
      if (const size_t star = pointer.find('*'); star != std::string::npos) pointer[star] = '0';
      json[nlohmann::json::json_pointer(pointer)] = key.max + 1;
      CHECK(parse_pool(json.dump()).error().front().pointer == pointer);
    }
  }
}

TEST_CASE("wrong files: where and what, one problem each") {
  const Wrong table[] = {
      // Not JSON.
      {"", "", 1, "is empty; allowed: an object"},
      {"\n \t\r\n", "", 3, "is empty; allowed: an object"},
      {"\xEF\xBB\xBF", "", 1, "is empty; allowed: an object"},
      {"// later\n/* much\n * later */ //", "", 3, "is empty; allowed: an object"},
      {"/*/", "", 1, "missing closing '*/'"},
      {"/", "", 1, "invalid comment"},
      {"{", "", 1, "unexpected end of input"},
      {"{\n  \"workers\": 1,\n}", "", 3, "unexpected '}'"},
      {"{\n  \"workers\" 1\n}", "", 2, "unexpected number literal"},
      {"{\n  workers: 1\n}", "", 2, "invalid literal"},
      {"{\n  \"workers\": 01\n}", "", 2, "unexpected number literal"},
      {"{\n  \"user\": \"a\nb\"\n}", "", 2, "control character"},
      {"{\n  \"user\": \"\xff\"\n}", "", 2, "ill-formed UTF-8"},
      {"{\n  \"user\": \"\\x\"\n}", "", 2, "forbidden character after backslash"},
      {"{\n} trailing", "", 2, "invalid literal"},
      {"{}\n{}", "", 2, "expected end of input"},
      {"/* open", "", 1, "missing closing '*/'"},
      {"{ # comment\n}", "", 1, "invalid literal"},
      {"{\"a\": nul}", "", 1, "invalid literal"},
      {"{\"a\": 1e999}", "", 1, "number overflow"},
      // Not an object, or nested without end.
      {"[]", "", 1, "is []; allowed: an object"},
      {"\n3", "", 2, "is 3; allowed: an object"},
      {"\"x\"", "", 1, "is \"x\"; allowed: an object"},
      {"null", "", 1, "is null; allowed: an object"},
      {"[[[[[[[[[[[[[[[[[[[[", "", 1, "more than 16 levels"},
      {around("\"user\": [[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]"), "", 2, "more than 16 levels"},
      // Unknown keys.
      {around("\"worker\": 3"), "/worker", 2,
       "did you mean \"workers\"?; allowed here: workers, placement, user, run_directory, affinity"},
      {around("\"limits\": {\n\"conections\": 3}"), "/limits/conections", 3, "did you mean \"connections\"?"},
      {around("\"zzzzzzzz\": 3"), "/zzzzzzzz", 2, "is not a known key; allowed here: workers"},
      {around("\"\": 3"), "/", 2, "is not a known key"},
      {around("\"a/b~c\": 3"), "/a~1b~0c", 2, "is not a known key"},
      {around("\"a\\nb\": 3"), "/a?b", 2, "is not a known key"},
      {around("\"Workers\": 3"), "/Workers", 2, "did you mean \"workers\"?"},
      {around("\"restart\": {\"stop_deadline_ms\": 1}"), "/restart/stop_deadline_ms", 2,
       "is not a known key"},
      {listeners("{\"address\": \"::1\",\n\"prot\": 1}"), "/listeners/0/prot", 4, "did you mean \"port\"?"},
      // Duplicate keys.
      {around("\"workers\": 3,\n\"workers\": 3"), "/workers", 3,
       "is a duplicate key; the first is on line 2"},
      {around("\"log\": {\"level\": \"info\",\n\n\"level\": \"info\"}"), "/log/level", 4,
       "the first is on line 2"},
      {around(kUpstream), "/upstream", 2, "is a duplicate key; the first is on line 1"},
      {listeners("{\"address\": \"::1\"},\n{\"address\": \"127.0.0.1\",\n\"address\": \"127.0.0.2\"}"),
       "/listeners/1/address", 5, "is a duplicate key; the first is on line 4"},
      // Missing keys.
      {std::string("{") + kUpstream + "}", "/listeners", 1,
       "is missing; required: an array of at least one object"},
      {std::string("{\n") + kListeners + "}", "/upstream", 1, "is missing; required: an object"},
      {std::string("{") + kListeners + ",\n\"upstream\": {\"mode\": \"connect\"}}", "/upstream/address", 2,
       "is missing; required with mode \"connect\": a numeric"},
      {listeners("{\"address\": \"::1\"},\n{\"port\": 1}"), "/listeners/1/address", 4, "is missing"},
      // Wrong kinds and ranges.
      {around("\"workers\": 0"), "/workers", 2, "is 0; allowed: an integer from 1 to 64"},
      {around("\"workers\": 65"), "/workers", 2, "is 65; allowed: an integer from 1 to 64"},
      {around("\"workers\": -1"), "/workers", 2, "is -1; allowed: an integer from 1 to 64"},
      {around("\"workers\": 1.0"), "/workers", 2, "is 1.0; allowed: an integer"},
      {around("\"workers\": 1e1"), "/workers", 2, "is 1e1; allowed: an integer"},
      {around("\"workers\": \"4\""), "/workers", 2, "is \"4\"; allowed: an integer"},
      {around("\"workers\": null"), "/workers", 2, "is null; allowed: an integer"},
      {around("\"workers\": true"), "/workers", 2, "is true; allowed: an integer"},
      {around("\"workers\": [4]"), "/workers", 2, "is [...]; allowed: an integer"},
      {around("\"workers\":\n4000\n"), "/workers", 3, "is 4000; allowed: an integer"},
      {around("\"limits\": {\"connections\": 18446744073709551616}"), "/limits/connections", 2,
       "is 18446744073709551616; allowed: an integer from 1 to 65536"},
      {around("\"user\": 3"), "/user", 2, "is 3; allowed: a string"},
      {around("\"user\": \"a\\u0000b\""), "/user", 2, "is \"a\\u0000b\"; allowed: a string"},
      {around("\"affinity\": \"random\""), "/affinity", 2,
       "is \"random\"; allowed: \"client\" or \"spread\""},
      {around("\"affinity\": 1"), "/affinity", 2, "is 1; allowed: \"client\" or \"spread\""},
      {around("\"log\": {\"level\": \"INFO\"}"), "/log/level", 2,
       "allowed: \"error\", \"warning\", \"notice\", \"info\" or \"debug\""},
      {around("\"iwarp\": {\"crc\": \"on\"}"), "/iwarp/crc", 2, "is \"on\"; allowed: true or false"},
      {around("\"iwarp\": {\"crc\": 1}"), "/iwarp/crc", 2, "is 1; allowed: true or false"},
      {around("\"limits\": 3"), "/limits", 2, "is 3; allowed: an object"},
      {around("\"limits\": []"), "/limits", 2, "is []; allowed: an object"},
      // One more than the length word of smbd's stream can say.
      {around("\"smbdirect\": {\"max_fragmented_size\": 16777216}"), "/smbdirect/max_fragmented_size", 2,
       "is 16777216; allowed: an integer from 131072 to 16777215"},
      {around("\"smbdirect\": {\"max_read_write_size\": 16777216}"), "/smbdirect/max_read_write_size", 2,
       "is 16777216; allowed: an integer from 65536 to 16777215"},
      {around("\"smbdirect\": {\"max_fragmented_size\": 131071}"), "/smbdirect/max_fragmented_size", 2,
       "is 131071; allowed: an integer from 131072"},
      {around("\"smbdirect\": {\"max_receive_size\": 127}"), "/smbdirect/max_receive_size", 2,
       "is 127; allowed"},
      {std::string("{") + kUpstream + ",\n\"listeners\": []}", "/listeners", 2,
       "is []; allowed: an array of at least one object"},
      {std::string("{") + kUpstream + ",\n\"listeners\": {}}", "/listeners", 2, "is {}; allowed: an array"},
      {listeners("\"127.0.0.1\""), "/listeners/0", 3, "is \"127.0.0.1\"; allowed: an object"},
      {listeners("{\"address\": \"localhost\"}"), "/listeners/0/address", 3,
       "is \"localhost\"; allowed: a numeric IPv4 or IPv6 address"},
      {listeners("{\"address\": \"127.0.0.1:445\"}"), "/listeners/0/address", 3, "allowed: a numeric"},
      {listeners("{\"address\": 1}"), "/listeners/0/address", 3, "is 1; allowed: a numeric"},
      {listeners("{\"address\": \"::1\", \"port\": 65536}"), "/listeners/0/port", 3, "is 65536; allowed"},
      {listeners("{\"address\": \"::1\", \"fabric\": \"tcp\"}"), "/listeners/0/fabric", 3,
       "is \"tcp\"; allowed: \"iwarp\" or \"verbs\""},
      {std::string("{") + kListeners + ", \"upstream\": {\"mode\": \"channel\"},\n\"run_directory\": \"/" +
           std::string(96, 'd') + "\"}",
       "/run_directory", 2, "is 97 characters long; allowed with mode \"channel\""},
      {upstream("\"channel\": {\"area_bytes\": 1048575}"), "/upstream/channel/area_bytes", 3,
       "is 1048575; allowed: an integer from 1048576"},
      {upstream("\"area\": {\"bytes\": 1073741825}"), "/upstream/area/bytes", 3,
       "is 1073741825; allowed: an integer from 1048576 to 1073741824"},
      {upstream("\"area\": {\"threshold\": 0}"), "/upstream/area/threshold", 3,
       "is 0; allowed: an integer from 1"},
      {upstream("\"mode\": \"magic\""), "/upstream/mode", 3,
       "is \"magic\"; allowed: \"transparent\", \"handoff\", \"connect\" or \"channel\""},
      {upstream("\"port\": 0"), "/upstream/port", 3, "is 0; allowed: an integer from 1 to 65535"},
      {upstream("\"allow\": \"10.0.0.0/8\""), "/upstream/allow", 3, "is \"10.0.0.0/8\"; allowed: an array"},
      {upstream("\"allow\": [\"10.0.0.0/8\",\n\"10.0.0.1/8\"]"), "/upstream/allow/1", 4,
       "\"10.0.0.1/8\" has bits set beyond its prefix; did you mean \"10.0.0.0/8\"?"},
      {upstream("\"deny\": [\"::/129\"]"), "/upstream/deny/0", 3, "has a prefix length that is not 0 to 128"},
      {upstream("\"deny\": [\"all\"]"), "/upstream/deny/0", 3, "\"all\" is not a network"},
      {upstream("\"deny\": [5]"), "/upstream/deny/0", 3, "is 5; allowed: a network"},
      // Rules between keys.
      {around("\"smbdirect\": {\n\"receive_credit_initial\": 256}"), "/smbdirect/receive_credit_initial", 3,
       "is 256, above /smbdirect/receive_credit_max (255)"},
      {around("\"limits\": {\"buffered_bytes_per_worker\": 1048576}"),
       "/limits/buffered_bytes_per_connection", 2,
       "is 33554432, above /limits/buffered_bytes_per_worker (1048576)"},
      {around("\"restart\": {\"maximum_backoff_s\": 5}"), "/restart/backoff_increment_s", 2, "is 10, above"},
      {around("\"restart\": {\"ping_timeout_ms\": 100}"), "/restart/ping_interval_ms", 2, "is 3000, above"},
      {listeners("{\"address\": \"::1\"},\n{\"address\": \"0:0::1\", \"port\": 5445}"), "/listeners/1", 4,
       "is [::1]:5445, the same as /listeners/0"},
      // Listeners that others reach want to know whom to let in.
      {listeners("{\"address\": \"0.0.0.0\"}"), "/listeners/0/address", 3,
       "add the networks of your clients, such as \"upstream\": { \"allow\": [\"192.0.2.0/24\"] }"},
      {listeners("{\"address\": \"::\"}"), "/listeners/0/address", 3,
       "is \"::\", which is not a loopback address"},
      {listeners("{\"address\": \"127.0.0.1\"},\n{\"address\": \"192.0.2.1\"}"), "/listeners/1/address", 4,
       "is not a loopback address"},
  };
  for (const Wrong& wrong : table) {
    INFO(wrong.text);
    const auto config = parse_pool(wrong.text);
    REQUIRE_FALSE(config);
    REQUIRE(config.error().size() == 1);
    const Problem& problem = config.error().front();
    CHECK(problem.pointer == wrong.pointer);
    CHECK(problem.line == wrong.line);
    CHECK_MESSAGE(has(problem.text, wrong.says), problem.text);
    // Only a text that is not JSON has a column.
    const std::string shown = problem_text("pool.json", problem);
    CHECK(has(shown, "pool.json:" + std::to_string(wrong.line) + ":"));
    CHECK(shown.find('\n') == std::string::npos);
  }
}

TEST_CASE("allow makes a listener that others reach possible") {
  const std::string text = R"({"listeners": [{"address": "0.0.0.0"}, {"address": "::"}],
    "upstream": {"mode": "connect", "address": "127.0.0.1", "allow": ["192.0.2.0/24"]}})";
  CHECK(parse_pool(text).has_value());
}

TEST_CASE("all problems of a file are told at once, in the order of the file") {
  const auto config = parse_pool(R"({
    "workers": 0,
    "listeners": [ { "address": "x" },
                   { "address": "::1", "port": -1 } ],
    "workers": 1,
    "upstream": { "bogus": 1,
                  "allow": ["y", "z"] }
  })");
  REQUIRE_FALSE(config);
  std::string shown;
  for (const Problem& problem : config.error()) shown += std::to_string(problem.line) + problem.pointer + " ";
  CHECK(shown ==
        "2/workers 3/listeners/0/address 4/listeners/1/port 5/workers 6/upstream/bogus "
        "7/upstream/allow/0 7/upstream/allow/1 ");
}

TEST_CASE("a syntax error has its column") {
  const auto config = parse_pool("{\n  \"workers\": 4x\n}");
  REQUIRE_FALSE(config);
  CHECK(problem_text("f", config.error().front()).starts_with("f:2:15: syntax error"));
}

TEST_CASE("long values and names are shortened in messages") {
  const auto config = parse_pool(around("\"user\": 1, \"" + std::string(5000, 'k') +
                                        "\": \"x\", \"affinity\": \"" + std::string(5000, 'v') + "\""));
  REQUIRE_FALSE(config);
  for (const Problem& problem : config.error()) {
    if (problem.pointer == "/affinity") CHECK(problem.text.size() < 200);
  }
}

TEST_CASE("files that cannot be read, and files that are too large") {
  const auto missing = load_pool("/nonexistent/pool.json");
  REQUIRE_FALSE(missing);
  CHECK(problem_text("p", missing.error().front()) == "p: cannot be read: No such file or directory");
  CHECK(has(load_pool("/").error().front().text, "Is a directory"));
  CHECK(has(load_pool("/dev/zero").error().front().text, "is larger than"));
  CHECK(has(parse_pool(std::string(kMaxPoolFileBytes + 1, ' ')).error().front().text, "is larger than"));
}

TEST_CASE("very many keys end the reading early") {
  std::string text = "{";
  for (int i = 0; i < 20'000; ++i) text += "\"k" + std::to_string(i) + "\":1,\n";
  text += "\"z\":1}";
  const auto config = parse_pool(text);
  REQUIRE_FALSE(config);
  CHECK(has(config.error().front().text, "an object of more than 4096 keys"));
}

TEST_CASE("an RDMA listener has SMB Direct's port on RoCE, and ports apart from those of TCP") {
  const auto config = parse_pool(R"({ "listeners": [
    { "address": "127.0.0.1", "fabric": "verbs" }, { "address": "127.0.0.1", "port": 5445, "fabric": "verbs" },
    { "address": "127.0.0.1" } ], "upstream": { "mode": "connect", "address": "127.0.0.1" } })");
  REQUIRE(config);
  CHECK(config->listeners[0].port == 445);
  CHECK(config->listeners[1].port == 5445);
  CHECK(config->listeners[2].port == 5445);
  CHECK(config->worker.verbs);
}

TEST_CASE("where the server sees the client's address, it decides who is let in") {
  using Upstream = WorkerConfig::Upstream;
  const std::pair<const char*, Upstream> cases[] = {{"\"mode\": \"transparent\"", Upstream::ask},
                                                    {"\"mode\": \"handoff\"", Upstream::ask},
                                                    {"\"mode\": \"channel\"", Upstream::native},
                                                    {"", Upstream::ask}};
  for (const auto& [mode, upstream] : cases) {
    const auto config =
        parse_pool(std::string(R"({"listeners": [{"address": "0.0.0.0"}], "upstream": {)") + mode + "}}");
    REQUIRE_MESSAGE(config, mode);
    CHECK(config->worker.upstream == upstream);
    CHECK(config->access.check(smbdirect::shm::host_of(*smbdirect::shm::address_from_text("192.0.2.9", 1))) ==
          Access::allowed);
  }
}

TEST_CASE("the places without a session follow from all places where they are not named") {
  const auto places = [](const std::string& limits) {
    const auto config =
        parse_pool("{" + std::string(kListeners) + "," + kUpstream + R"(, "limits": {)" + limits + "}}");
    REQUIRE(config);
    return config->most_without_session();
  };
  CHECK(places("") == 512);
  CHECK(places(R"("connections": 100)") == 50);
  CHECK(places(R"("connections": 40)") == 32);
  CHECK(places(R"("connections": 4)") == 4);
  CHECK(places(R"("connections_without_session": 7)") == 7);
  CHECK(places(R"("connections": 4, "connections_without_session": 7)") == 4);
}
