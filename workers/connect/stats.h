// SPDX-License-Identifier: MIT
// smbdirect-connect's statistics: the tables of --stats and the line of --progress. Pure.
#pragma once

#include <cstdint>
#include <string>

#include "workers/stats/counters.h"

namespace smbdirect::workers::connect {

/// One counter per line with its meaning, after a summary of what travelled how.
[[nodiscard]] std::string stats_text(const Counters& counters);

/// One JSON object, every counter by name, without a line end.
[[nodiscard]] std::string stats_json(const Counters& counters);

/// What moved between two readings `interval_ms` apart. Empty when no data moved.
[[nodiscard]] std::string progress_line(const Counters& before, const Counters& after, uint64_t interval_ms,
                                        size_t connections);

/// "12.3 MiB": three digits and a binary unit.
[[nodiscard]] std::string bytes_text(uint64_t bytes);

}  // namespace smbdirect::workers::connect
