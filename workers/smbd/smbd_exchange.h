// SPDX-License-Identifier: MIT
// A session's exchange with stock smbd: requests one way, responses the other. Owned by one session, one
// thread.
#pragma once

#include <memory>
#include <utility>

#include "workers/session/exchange.h"
#include "workers/smbd/direct_files.h"
#include "workers/smbd/direct_io.h"
#include "workers/smbd/previous_sessions.h"
#include "workers/smbd/request_path.h"
#include "workers/smbd/response_path.h"
#include "workers/smbd/smbd_area.h"
#include "workers/smbd/smbd_link.h"

namespace smbdirect::workers {

/// What is done by the module in smbd; each is null where it is not, and so is the link where neither is.
struct ModuleUse {
  const LinkResources* link = nullptr;
  const AreaResources* area = nullptr;
  const DirectResources* direct = nullptr;
};

class SmbdExchange final : public Exchange {
 public:
  /// open: connects to an smbd.
  SmbdExchange(SessionContext& context, const OpenUpstream& open, const ModuleUse& module = {})
      : open_(open),
        link_(context, module.link),
        area_(context, link_, module.area),
        files_(context, link_, module.direct),
        previous_(context, link_, module.direct),
        responses_(context, link_, area_, files_, previous_),
        direct_(context, files_, responses_, module.direct),
        requests_(context, area_, files_, direct_, previous_) {
    direct_.on_ended([this] { requests_.on_direct_ended(); });
    previous_.on_ended([this] { requests_.on_previous_ended(); });
  }

  void on_fragment(const Fragment& fragment) override { requests_.on_fragment(fragment); }
  void on_read_done(uint64_t /*cookie*/) override { requests_.on_read_done(); }
  void on_writes_done(uint64_t count) override { responses_.on_writes_done(count); }
  void resume() override { requests_.resume(); }
  [[nodiscard]] bool stalled() const override { return requests_.stalled(); }
  [[nodiscard]] Outbox& outbox() override { return requests_.outbox(); }
  [[nodiscard]] bool unfinished() const override { return requests_.unfinished(); }
  [[nodiscard]] State pump(int fd) override {
    link_.stream(fd);
    const State state = responses_.pump(fd);
    if (state == State::end) stop(-1);
    return state;
  }
  void detached() override { stop(link_.stream()); }
  void module_answered(shm::Result<shm::UniqueFd> link) override { link_.answered(std::move(link)); }
  [[nodiscard]] shm::AreaState area_state() const override { return area_.shown(); }
  [[nodiscard]] shm::DirectState direct_state() const override { return files_.shown(); }
  [[nodiscard]] uint32_t direct_files() const override { return files_.open_files(); }
  void trim() override { responses_.trim(); }
  void tidy() override { files_.tidy(); }

  [[nodiscard]] shm::Result<std::unique_ptr<Upstream>> open_upstream(UpstreamRequest request) override {
    link_.of(request.connection);
    return open_(std::move(request));
  }
  [[nodiscard]] const Names& names() const override {
    static constexpr Names kNames{.server = "smbd",
                                  .stream = "connection",
                                  .unreachable = "; is smbd running, and does it listen there?"};
    return kNames;
  }

 private:
  void stop(int stream) {
    previous_.stop();
    direct_.stop(stream);
  }

  const OpenUpstream& open_;
  SmbdLink link_;  // before its users, and they before the paths
  SmbdArea area_;
  DirectFiles files_;
  PreviousSessions previous_;
  ResponsePath responses_;
  DirectIo direct_;
  RequestPath requests_;
};

}  // namespace smbdirect::workers
