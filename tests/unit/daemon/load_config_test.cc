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

}  // namespace

TEST_CASE("who workers are: whom the pool file names, else the packages' user where there is one") {
  CHECK(settled("", true, "smbdirect") == "smbdirect");
  CHECK(settled("", true, "nobody").empty());      // as before there was such a user
  CHECK(settled("", false, "smbdirect").empty());  // it could not become that
  CHECK(settled("nobody", true, "nobody") == "nobody");
  CHECK(settled("nobody", true, "smbdirect") == "[is \"nobody\"]");
  CHECK(settled("smbdirect", true, "nobody") == "[is \"smbdirect\"]");
  CHECK(settled("root", true, "root") == "root");  // asked for
}
