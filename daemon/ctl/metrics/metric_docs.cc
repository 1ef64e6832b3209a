// SPDX-License-Identifier: MIT
#include "daemon/ctl/metrics/metric_docs.h"

#include <vector>

#include "daemon/ctl/metrics/metric_table.h"
#include "shm/latency_table.h"

namespace smbdirect::daemon::metrics {

std::string metric_manual() {
  std::string text;
  std::string name;
  for (const MetricRow& row : metric_table()) {
    if (row.name == name) continue;
    name = row.name;
    std::string labels = row.source == Source::worker ? "worker" : "";
    if (!row.label.empty()) labels += (labels.empty() ? "" : ", ") + std::string(row.label);
    text += ".TP\n.BR " + row.name + (labels.empty() ? "" : " \" {" + labels + "}\"") + "\n";
    text += std::string(row.help) + ".\n";
    if (row.kind != Kind::histogram) continue;
    for (const shm::OperationRow& operation : shm::kOperationTable)
      text += ".br\n" + std::string(operation.name) + ": " + std::string(operation.help) + ".\n";
  }
  return text;
}

}  // namespace smbdirect::daemon::metrics
