// SPDX-License-Identifier: MIT
#include "daemon/open_smbd_connector.h"

#include <algorithm>
#include <utility>

#include "daemon/upstream/handoff/handoff_connector.h"
#include "daemon/upstream/transparent/transparent_connector.h"
#include "daemon/upstream/transparent/transparent_routes.h"

namespace smbdirect::daemon {
namespace {

/// The routes stay for as long as connections are made; those that workers have need them too.
class TransparentDoor final : public SmbdConnector {
 public:
  TransparentDoor(shm::Loop& loop, std::unique_ptr<TransparentRoutes> routes,
                  const TransparentConnector::Options& options)
      : routes_(std::move(routes)), connector_(loop, options) {}

  [[nodiscard]] uint64_t open(const sockaddr_storage& client, const sockaddr_storage& server,
                              Done done) override {
    return connector_.open(client, server, std::move(done));
  }
  void cancel(uint64_t number) override { connector_.cancel(number); }

 private:
  std::unique_ptr<TransparentRoutes> routes_;
  TransparentConnector connector_;
};

shm::Result<std::unique_ptr<SmbdConnector>> open_transparent(shm::Loop& loop, const PoolConfig& config) {
  auto routes = TransparentRoutes::set_up({.routing = config.transparent,
                                           .lock_directory = config.run_directory,
                                           .sources = config.smbd_addresses()});
  if (!routes) return std::unexpected(routes.error());
  TransparentConnector::Options options;
  options.mark = config.transparent.mark;
  options.deadline_ms = config.worker.upstream_connect_timeout_ms;
  options.no_ipv6 = (*routes)->no_ipv6();
  return std::make_unique<TransparentDoor>(loop, std::move(*routes), options);
}

shm::Result<std::unique_ptr<SmbdConnector>> open_handoff(shm::Loop& loop, const PoolConfig& config) {
  const HandoffConfig& wanted = config.handoff;
  HandoffConnector::Options options;
  options.samba = {.testparm = wanted.testparm, .smb_conf = wanted.configfile};
  options.smbd = wanted.smbd;
  options.pid_directory = wanted.pid_directory;
  options.run_directory = config.run_directory + "/smbd";
  options.max_spawned = wanted.processes;
  // A process is started for each: of many at once the last one waits for the others.
  options.deadline_ms = std::max(options.deadline_ms, config.worker.upstream_connect_timeout_ms);
  return HandoffConnector::set_up(loop, std::move(options));
}

}  // namespace

shm::Result<std::unique_ptr<SmbdConnector>> open_smbd_connector(shm::Loop& loop, const PoolConfig& config) {
  switch (config.upstream_mode) {
    case UpstreamMode::transparent:
      return open_transparent(loop, config);
    case UpstreamMode::handoff:
      return open_handoff(loop, config);
    case UpstreamMode::connect:
    case UpstreamMode::native:
      break;
  }
  return nullptr;
}

}  // namespace smbdirect::daemon
