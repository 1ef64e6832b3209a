// SPDX-License-Identifier: MIT
// The daemon's answers as metrics, by the table (metric_table.h), in the words of prometheus-cpp, whose
// serializer and exposer write them. Pure; smbdirectctl and smbdirect-exporter.
#pragma once

#include <expected>
#include <prometheus/metric_family.h>
#include <string>
#include <string_view>
#include <vector>

namespace smbdirect::daemon::metrics {

using Families = std::vector<prometheus::MetricFamily>;

/// status, workers: the answers to the commands of these names. What an answer does not have (other modes,
/// another release) is left out. The error: what the daemon says, or that an answer makes no sense.
[[nodiscard]] std::expected<Families, std::string> families(std::string_view status,
                                                            std::string_view workers);
/// Of a daemon that does not answer: smbdirect_up is 0, and there is nothing else.
[[nodiscard]] Families no_answer();

/// As Prometheus reads it.
[[nodiscard]] std::string metrics_text(const Families& families);
/// {"metrics": [{"name": ..., "type": ..., "help": ..., "samples": [{"labels": {...}, "value": ...}]}]},
/// indented; a histogram's samples have "count", "sum" and "buckets" instead of "value".
[[nodiscard]] std::string metrics_json(const Families& families);

}  // namespace smbdirect::daemon::metrics
