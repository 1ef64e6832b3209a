// SPDX-License-Identifier: MIT
#include <utility>

#include "workers/fabric/verbs/connect_link.h"
#include "workers/fabric/verbs/device_table.h"
#include "workers/fabric/verbs/endpoint.h"
#include "workers/fabric/verbs/rdma_api.h"
#include "workers/fabric/verbs/verbs.h"
#include "workers/fabric/verbs/verbs_api.h"

namespace smbdirect::workers::fabric::verbs {

namespace {

class SystemConnector final : public Connector {
 public:
  SystemConnector(uv_loop_t& loop, Arena& arena) : loop_(loop), devices_(loop, arena, verbs_) {}

  /// Once now rather than within the first connection's time.
  shm::Result<> prepare() {
    load_drivers(verbs_);
    const auto channel = open_channel(rdma_);
    if (!channel) return std::unexpected(channel.error());
    return {};
  }

  shm::Result<std::unique_ptr<Endpoint>> connect(const sockaddr_storage& to,
                                                 const std::optional<sockaddr_storage>& from,
                                                 const Options& options, Handler& handler) override {
    auto link = ConnectLink::make(rdma_, loop_, to, from);
    if (!link) return std::unexpected(link.error());
    return std::make_unique<VerbsEndpoint>(loop_, devices_, std::move(*link), Side::connecting, options,
                                           handler);
  }

 private:
  uv_loop_t& loop_;
  SystemVerbs verbs_;
  SystemRdma rdma_;
  DeviceTable devices_;
};

}  // namespace

shm::Result<std::unique_ptr<Connector>> Connector::open(uv_loop_t& loop, Arena& arena) {
  auto connector = std::make_unique<SystemConnector>(loop, arena);
  if (auto ready = connector->prepare(); !ready) return std::unexpected(ready.error());
  return connector;
}

}  // namespace smbdirect::workers::fabric::verbs
