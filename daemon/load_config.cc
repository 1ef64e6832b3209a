// SPDX-License-Identifier: MIT
#include "daemon/load_config.h"

#include <pwd.h>
#include <unistd.h>
#include <utility>

#include "daemon/config/pool_file.h"

namespace smbdirect::daemon {

std::expected<PoolConfig, Problems> load_config(const CommandLine& line) {
  auto config = load_pool(line.config_file);
  if (!config) return config;
  if (line.log_level) config->worker.log_level = *line.log_level;
  const auto exists = [](const std::string& user) { return getpwnam(user.c_str()) != nullptr; };
  if (Problems problems = settle_user(*config, geteuid() == 0, exists); !problems.empty())
    return std::unexpected(std::move(problems));
  return config;
}

Problems settle_user(PoolConfig& config, bool root,
                     const std::function<bool(const std::string& user)>& exists) {
  std::string& user = config.worker.user;
  if (user.empty()) {
    if (const std::string ours(kWorkersUser); root && exists(ours)) user = ours;
    return {};
  }
  if (exists(user)) return {};
  Problem problem;
  problem.pointer = "/user";
  problem.text =
      "is \"" + user +
      "\", which this system does not know; allowed: an existing user (\"getent passwd\" lists them)";
  return {problem};
}

}  // namespace smbdirect::daemon
