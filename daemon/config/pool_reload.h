// SPDX-License-Identifier: MIT
// What a changed pool file means for a pool that runs: which keys differ, when each change applies, and the
// configuration that the pool has from then on, in which keys that need a restart are as before. Pure.
#pragma once

#include <expected>
#include <string>
#include <vector>

#include "daemon/config/pool_config.h"
#include "daemon/config/pool_document.h"
#include "daemon/config/pool_keys.h"

namespace smbdirect::daemon {

struct Change {
  std::string pointer;  // "/listeners" for whatever differs in it
  std::string from;     // JSON
  std::string to;
  Applies applies{};
};

/// In the order of the table of keys.
[[nodiscard]] std::vector<Change> changes_between(const PoolConfig& running, const PoolConfig& wanted);

/// `wanted` with the keys of `running` that need a restart. The error: together they are no valid pool file.
[[nodiscard]] std::expected<PoolConfig, Problems> after_reload(const PoolConfig& running, PoolConfig wanted);

}  // namespace smbdirect::daemon
