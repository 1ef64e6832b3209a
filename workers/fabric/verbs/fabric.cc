// SPDX-License-Identifier: MIT
#include <utility>

#include "shm/base/log.h"
#include "workers/fabric/verbs/accept_file.h"
#include "workers/fabric/verbs/accept_link.h"
#include "workers/fabric/verbs/device_table.h"
#include "workers/fabric/verbs/endpoint.h"
#include "workers/fabric/verbs/verbs.h"
#include "workers/fabric/verbs/verbs_api.h"

namespace smbdirect::workers::fabric::verbs {

namespace {

namespace log = shm::log;

class SystemFabric final : public Fabric {
 public:
  SystemFabric(uv_loop_t& loop, Arena& arena, daemon::RdmaCm cm)
      : loop_(loop), devices_(loop, arena, api_), file_(loop, std::move(cm)) {
    load_drivers(api_);
  }

  shm::Result<> take(const Request& request) override {
    return file_.cm().migrate(request.id, request.handover_fd);
  }

  std::unique_ptr<Endpoint> accept(const Request& request, const Options& options,
                                   Handler& handler) override {
    return std::make_unique<VerbsEndpoint>(
        loop_, devices_, std::make_unique<AcceptLink>(file_, request.id, request.parameters), Side::accepting,
        options, handler);
  }

  void reject(const Request& request) override {
    // Destroying rejects as well; saying so first is only the fabric's politer form.
    (void)file_.cm().reject(request.id);
    if (const auto destroyed = file_.cm().destroy(request.id); !destroyed) {
      log::write(log::Level::debug, "%s", destroyed.error().text().c_str());
    }
  }

 private:
  uv_loop_t& loop_;
  SystemVerbs api_;
  DeviceTable devices_;
  AcceptFile file_;
};

}  // namespace

shm::Result<std::unique_ptr<Fabric>> Fabric::open(uv_loop_t& loop, Arena& arena) {
  auto cm = daemon::RdmaCm::open();
  if (!cm) return std::unexpected(cm.error());
  return std::make_unique<SystemFabric>(loop, arena, std::move(*cm));
}

}  // namespace smbdirect::workers::fabric::verbs
