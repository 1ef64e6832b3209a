// SPDX-License-Identifier: MIT
// What smbdirect-exporter serves: each scrape asks the daemon at its control socket. Owned by main(); called
// by the HTTP server's threads, one scrape at a time. A daemon that is gone, or not there yet, is a metric,
// and is said once in the log.
#pragma once

#include <mutex>
#include <prometheus/collectable.h>
#include <prometheus/metric_family.h>
#include <string>
#include <vector>

namespace smbdirect::daemon::exporter {

class PoolMetrics final : public prometheus::Collectable {
 public:
  explicit PoolMetrics(std::string socket) : socket_(std::move(socket)) {}

  [[nodiscard]] std::vector<prometheus::MetricFamily> Collect() const override;

 private:
  std::string socket_;
  mutable std::mutex one_at_a_time_;  // the log is for one thread
  mutable std::string said_;          // why there was no answer; empty: there was
};

}  // namespace smbdirect::daemon::exporter
