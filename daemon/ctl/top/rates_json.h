// SPDX-License-Identifier: MIT
// What smbdirectctl top --json prints: the rates of one second, with the names that `workers` and
// `connections` have for what is counted. Pure; smbdirectctl top only.
#pragma once

#include <string>

#include "daemon/ctl/top/rates.h"
#include "daemon/ctl/top/reading.h"

namespace smbdirect::daemon::top {

/// {"top": {..., "per_second": {...}, "workers": [...], "clients": [...]}}. A rate is a number, or null where
/// it is not known.
[[nodiscard]] std::string rates_json(const Reading& now, const PoolRates& rates);

}  // namespace smbdirect::daemon::top
