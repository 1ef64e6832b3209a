// SPDX-License-Identifier: MIT
// What the daemon runs with: the pool file, what the command line says in its place, and what this system
// adds to it. Whoever reads the pool file, at the start or later, does it here. Supervisor only.
#pragma once

#include <expected>
#include <functional>
#include <string>
#include <string_view>

#include "daemon/config/pool_config.h"
#include "daemon/config/pool_document.h"
#include "daemon/options.h"

namespace smbdirect::daemon {

/// The errors are those of the pool file, each with its place there.
[[nodiscard]] std::expected<PoolConfig, Problems> load_config(const CommandLine& line);

/// The user that packages make for the workers (conf/smbdirectd.sysusers.conf).
inline constexpr std::string_view kWorkersUser = "smbdirect";

/// Where the pool file names no user and the daemon is root: kWorkersUser if there is one. Does the user that
/// workers are to be exist?
[[nodiscard]] Problems settle_user(PoolConfig& config, bool root,
                                   const std::function<bool(const std::string& user)>& exists);

/// The group that packages make for those who may ask (conf/smbdirectd.sysusers.conf).
inline constexpr std::string_view kStatusGroup = "smbdirect-status";

/// Where the pool file names no /control/group: kStatusGroup if there is one. Does the group exist?
[[nodiscard]] Problems settle_group(PoolConfig& config,
                                    const std::function<bool(const std::string& group)>& exists);

}  // namespace smbdirect::daemon
