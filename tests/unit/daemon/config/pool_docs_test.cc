// SPDX-License-Identifier: MIT
// The documents in the repository say what the tables say.
#include "daemon/config/pool_docs.h"

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <set>
#include <sstream>
#include <string>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "daemon/config/pool_file.h"
#include "daemon/config/pool_keys.h"
#include "daemon/options.h"

using namespace smbdirect::daemon;

namespace {

std::string file(const std::string& path) {
  const char* root = std::getenv("SOURCE_ROOT");
  REQUIRE_MESSAGE(root != nullptr, "SOURCE_ROOT names the source tree; meson test sets it");
  std::ifstream in(std::string(root) + "/" + path);
  REQUIRE_MESSAGE(in, path);
  return {std::istreambuf_iterator<char>(in), {}};
}

bool has(const std::string& text, std::string_view part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("the schema and the manual have every key of the table") {
  CHECK(has(file("docs/smbdirectd-pool.5.in"), kManualPlace));
  const std::string manual = pool_manual_keys();
  const auto schema = nlohmann::json::parse(pool_schema());
  for (const Key& key : pool_keys()) {
    INFO(std::string(key.pointer));
    CHECK(has(manual, "\n.B " + std::string(key.pointer) + "\n"));
    nlohmann::json place = schema;
    std::istringstream parts(std::string(key.pointer.substr(1)));
    for (std::string part; std::getline(parts, part, '/');)
      place = part == "*" ? place["items"] : place["properties"][part];
    CHECK(place["description"] == key.help);
    if (key.automatic) CHECK(place["anyOf"][1]["const"] == "auto");
    if (key.type == KeyType::integer)
      CHECK((key.automatic ? place["anyOf"][0] : place)["maximum"] == key.max);
  }
}

TEST_CASE("the manual knows every option, and every signal and exit status") {
  const std::string page = file("docs/smbdirectd.8");
  for (const OptionRow& row : option_table()) {
    std::string name = "\\-\\-";
    for (const char c : row.name) name += c == '-' ? "\\-" : std::string(1, c);
    CHECK_MESSAGE(has(page, name), row.name);
    if (row.letter != '\0') CHECK_MESSAGE(has(page, std::string("\\-") + row.letter), row.name);
  }
  for (const char* signal : {"SIGTERM", "SIGINT", "SIGQUIT", "SIGUSR1", "SIGHUP", "SIGUSR2"})
    CHECK(has(page, signal));
  for (const char* status : {"\n.B 0\n", "\n.B 1\n", "\n.B 2\n", "\n.B 3\n"}) CHECK(has(page, status));
}

TEST_CASE("the example is valid, has every key, and every default that it documents is the default") {
  const std::string example = file("conf/pool.json");
  const auto config = parse_pool(example);
  REQUIRE(config);
  const auto minimal = parse_pool(R"({"listeners": [{"address": "127.0.0.1"}], "upstream": {}})");
  REQUIRE(minimal);
  CHECK(dump_pool(*config) == dump_pool(*minimal));
  for (const Key& key : pool_keys())
    CHECK_MESSAGE(has(example, "\"" + std::string(key.name()) + "\""), key.pointer);
}

TEST_CASE("the table of keys is whole") {
  std::set<std::string_view> pointers;
  for (const Key& key : pool_keys()) {
    INFO(std::string(key.pointer));
    CHECK(pointers.insert(key.pointer).second);
    CHECK(key.help.size() > 10);
    CHECK(key.help.back() == '.');
    const bool section = key.type == KeyType::object || key.type == KeyType::objects;
    CHECK(section == (key.slot == nullptr));
    CHECK((key.type == KeyType::integer) == (key.max > key.min));
    CHECK((key.type == KeyType::choice) == !key.choices.empty());
    CHECK_FALSE(allowed_text(key).empty());
    // Its parent is a row too, or the document.
    std::string_view parent = key.parent();
    if (parent.ends_with("/*")) parent.remove_suffix(2);
    if (!parent.empty()) CHECK(pointers.contains(parent));
    if (!section && !key.required) CHECK_FALSE(default_text(key).empty());
  }
}
