// SPDX-License-Identifier: MIT
// From a pool file to a PoolConfig. Every problem of a file is reported at once, each with its JSON
// pointer, line, value and what is allowed. At start and at reload; pure but for load_pool and
// "auto", which is what this machine has; nothing is thrown.
#pragma once

#include <expected>
#include <string>
#include <string_view>

#include "daemon/config/pool_config.h"
#include "daemon/config/pool_document.h"

namespace smbdirect::daemon {

/// Ordered by line.
[[nodiscard]] std::expected<PoolConfig, Problems> parse_pool(std::string_view text);

/// Reads and parses. A file that cannot be read is one problem without a line.
[[nodiscard]] std::expected<PoolConfig, Problems> load_pool(const std::string& path);

/// "pool.json:12: /limits/connections: is 0; allowed: ..."
[[nodiscard]] std::string problem_text(std::string_view file, const Problem& problem);

/// The configuration as a pool file with every key.
[[nodiscard]] std::string dump_pool(const PoolConfig& config);

}  // namespace smbdirect::daemon
