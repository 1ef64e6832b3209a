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

namespace {

using Exists = std::function<bool(const std::string& name)>;

/// A name that the file may leave out: ours then, where this system has it. kind: "user" or "group".
Problems settle(std::string& name, const char* pointer, const std::string& kind, const std::string& ours,
                const Exists& exists) {
  if (name.empty()) {
    if (!ours.empty() && exists(ours)) name = ours;
    return {};
  }
  if (exists(name)) return {};
  Problem problem;
  problem.pointer = pointer;
  problem.text = "is \"" + name + "\", which this system does not know; allowed: an existing " + kind +
                 " (\"getent " + (kind == "user" ? "passwd" : "group") + "\" lists them)";
  return {problem};
}

}  // namespace

Problems settle_user(PoolConfig& config, bool root, const Exists& exists) {
  return settle(config.worker.user, "/user", "user", root ? std::string(kWorkersUser) : "", exists);
}

Problems settle_group(PoolConfig& config, const Exists& exists) {
  return settle(config.control_group, "/control/group", "group", std::string(kStatusGroup), exists);
}

}  // namespace smbdirect::daemon
