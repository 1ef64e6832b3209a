// SPDX-License-Identifier: MIT
// Asks a daemon for all that metrics are made of. Blocks, for a bounded time (client.h).
#pragma once

#include <expected>
#include <string>

#include "daemon/ctl/metrics/families.h"

namespace smbdirect::daemon::metrics {

/// The error says why there are none, and what to do.
[[nodiscard]] std::expected<Families, std::string> scrape(const std::string& socket);

}  // namespace smbdirect::daemon::metrics
