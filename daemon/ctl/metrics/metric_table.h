// SPDX-License-Identifier: MIT
// The metrics: the one table of their names, texts and kinds, and of where in the daemon's answers each comes
// from. The workers' counters are in it from their own table (shm/counter_table.h). The test of the Grafana
// dashboard and the list in the manual are made of it, too. Constant data; smbdirectctl and
// smbdirect-exporter.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace smbdirect::daemon::metrics {

enum class Source : uint8_t {
  asking,  // how the question itself went
  status,  // a member of "status"
  worker,  // a member of each of "workers", with the label worker
};

enum class Kind : uint8_t {
  counter,
  gauge,
  histogram,  // of durations, one for each kind of operation (shm/latency_table.h), which is its label
};

struct MetricRow {
  std::string name;  // rows of one name stand together, and are one family
  Kind kind{};
  std::string_view help{};
  Source source{};
  std::string_view member{};
  double scale = 1;  // what the member is multiplied with for the metric's unit
  /// With a value: a label of this row. Without: the member is a word, which this label gets; the metric
  /// is 1.
  std::string_view label{};
  std::string_view label_value{};
};
[[nodiscard]] std::vector<MetricRow> metric_table();

}  // namespace smbdirect::daemon::metrics
