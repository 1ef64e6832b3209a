// SPDX-License-Identifier: MIT
#include "daemon/exporter/pool_metrics.h"

#include <future>
#include <utility>

#include "daemon/ctl/metrics/scrape.h"
#include "shm/base/log.h"

namespace smbdirect::daemon::exporter {

namespace log = shm::log;

std::vector<prometheus::MetricFamily> PoolMetrics::Collect() const {
  const std::scoped_lock lock(one_at_a_time_);
  // In a thread of its own: the HTTP server's have stacks of 100 KiB, less than a question to the daemon
  // takes.
  auto found = std::async(std::launch::async, metrics::scrape, socket_).get();
  const std::string why = found ? "" : found.error();
  if (why != said_ && !found)
    log::write(log::Level::warning, "no metrics, only that smbdirect_up is 0: %s", why.c_str());
  if (why != said_ && found) log::write(log::Level::notice, "smbdirectd answers again");
  said_ = why;
  return found ? std::move(*found) : metrics::no_answer();
}

}  // namespace smbdirect::daemon::exporter
