// SPDX-License-Identifier: MIT
#include "daemon/ctl/metrics/scrape.h"

#include "daemon/ctl/client.h"

namespace smbdirect::daemon::metrics {

std::expected<Families, std::string> scrape(const std::string& socket) {
  const auto status = ask_daemon(socket, {.command = CtlCommand::status});
  if (!status) return std::unexpected(status.error().text());
  const auto workers = ask_daemon(socket, {.command = CtlCommand::workers});
  if (!workers) return std::unexpected(workers.error().text());
  return families(*status, *workers);
}

}  // namespace smbdirect::daemon::metrics
