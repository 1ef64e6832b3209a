// SPDX-License-Identifier: MIT
#include "daemon/load_config.h"

#include <string>

#include <doctest/doctest.h>

using namespace smbdirect::daemon;

namespace {

/// The user of workers that comes of a pool file's /user; with what is wrong in brackets.
std::string settled(const std::string& user, bool root, const std::string& known) {
  PoolConfig config;
  config.worker.user = user;
  const Problems problems = settle_user(config, root, [&](const std::string& name) { return name == known; });
  if (problems.empty()) return config.worker.user;
  REQUIRE(problems.size() == 1);
  CHECK(problems[0].pointer == "/user");
  return "[" + problems[0].text.substr(0, problems[0].text.find(',')) + "]";
}

/// The group of those who may ask that comes of a pool file's /control/group; likewise.
std::string settled_group(const std::string& group, const std::string& known) {
  PoolConfig config;
  config.control_group = group;
  const Problems problems = settle_group(config, [&](const std::string& name) { return name == known; });
  if (problems.empty()) return config.control_group;
  REQUIRE(problems.size() == 1);
  CHECK(problems[0].pointer == "/control/group");
  return "[" + problems[0].text.substr(0, problems[0].text.find(',')) + "]";
}

}  // namespace

TEST_CASE("who may ask: whom the pool file names, else the packages' group where there is one") {
  CHECK(settled_group("", "smbdirect-status") == "smbdirect-status");
  CHECK(settled_group("", "adm").empty());
  CHECK(settled_group("adm", "adm") == "adm");
  CHECK(settled_group("adm", "smbdirect-status") == "[is \"adm\"]");
}

TEST_CASE("who workers are: whom the pool file names, else the packages' user where there is one") {
  CHECK(settled("", true, "smbdirect") == "smbdirect");
  CHECK(settled("", true, "nobody").empty());      // as before there was such a user
  CHECK(settled("", false, "smbdirect").empty());  // it could not become that
  CHECK(settled("nobody", true, "nobody") == "nobody");
  CHECK(settled("nobody", true, "smbdirect") == "[is \"nobody\"]");
  CHECK(settled("smbdirect", true, "nobody") == "[is \"smbdirect\"]");
  CHECK(settled("root", true, "root") == "root");  // asked for
}
