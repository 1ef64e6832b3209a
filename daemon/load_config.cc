// SPDX-License-Identifier: MIT
#include "daemon/load_config.h"

#include <pwd.h>
#include <unistd.h>
#include <utility>

#include "daemon/config/pool_file.h"
#include "daemon/os/account.h"

namespace smbdirect::daemon {

std::expected<PoolConfig, Problems> load_config(const CommandLine& line) {
  auto config = load_pool(line.config_file);
  if (!config) return config;
  if (line.log_level) config->worker.log_level = *line.log_level;
  const auto exists = [](const std::string& user) { return getpwnam(user.c_str()) != nullptr; };
  if (Problems problems = settle_user(*config, geteuid() == 0, exists); !problems.empty())
    return std::unexpected(std::move(problems));
  const auto group_exists = [](const std::string& group) { return group_id(group).has_value(); };
  if (Problems problems = settle_group(*config, group_exists); !problems.empty())
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

Problems settle_group(PoolConfig& config, const std::function<bool(const std::string& group)>& exists) {
  std::string& group = config.control_group;
  if (group.empty()) {
    if (const std::string ours(kStatusGroup); exists(ours)) group = ours;
    return {};
  }
  if (exists(group)) return {};
  Problem problem;
  problem.pointer = "/control/group";
  problem.text =
      "is \"" + group +
      "\", which this system does not know; allowed: an existing group (\"getent group\" lists them)";
  return {problem};
}

}  // namespace smbdirect::daemon
