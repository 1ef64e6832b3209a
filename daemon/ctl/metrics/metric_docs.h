// SPDX-License-Identifier: MIT
// The manual's list of metrics, made from their table when it is built.
#pragma once

#include <string>
#include <string_view>

namespace smbdirect::daemon::metrics {

/// A line of the manual page begins with this where the list belongs.
inline constexpr std::string_view kManualPlace = ".\\\" METRICS:";

/// One paragraph for each metric.
[[nodiscard]] std::string metric_manual();

}  // namespace smbdirect::daemon::metrics
