// SPDX-License-Identifier: MIT
// A session's exchange with stock smbd: requests one way, responses the other. Owned by one session, one
// thread.
#pragma once

#include <memory>
#include <utility>

#include "workers/session/exchange.h"
#include "workers/smbd/request_path.h"
#include "workers/smbd/response_path.h"
#include "workers/smbd/smbd_area.h"

namespace smbdirect::workers {

class SmbdExchange final : public Exchange {
 public:
  /// open: connects to an smbd.
  /// areas: null: no data goes by memory shared with smbd.
  SmbdExchange(SessionContext& context, const OpenUpstream& open, const AreaResources* areas = nullptr)
      : open_(open), area_(context, areas), requests_(context, area_), responses_(context, area_) {}

  void on_fragment(const Fragment& fragment) override { requests_.on_fragment(fragment); }
  void on_read_done(uint64_t /*cookie*/) override { requests_.on_read_done(); }
  void on_writes_done(uint64_t count) override { responses_.on_writes_done(count); }
  void resume() override { requests_.resume(); }
  [[nodiscard]] bool stalled() const override { return requests_.stalled(); }
  [[nodiscard]] Outbox& outbox() override { return requests_.outbox(); }
  [[nodiscard]] bool unfinished() const override { return requests_.unfinished(); }
  [[nodiscard]] State pump(int fd) override {
    area_.stream(fd);
    return responses_.pump(fd);
  }
  void module_answered(shm::Result<shm::UniqueFd> link) override { area_.answered(std::move(link)); }
  [[nodiscard]] shm::AreaState area_state() const override { return area_.shown(); }
  void trim() override { responses_.trim(); }

  [[nodiscard]] shm::Result<std::unique_ptr<Upstream>> open_upstream(UpstreamRequest request) override {
    area_.of(request.connection);
    return open_(std::move(request));
  }
  [[nodiscard]] const Names& names() const override {
    static constexpr Names kNames{.server = "smbd",
                                  .stream = "connection",
                                  .unreachable = "; is smbd running, and does it listen there?"};
    return kNames;
  }

 private:
  const OpenUpstream& open_;
  SmbdArea area_;  // before the paths, which refer to it
  RequestPath requests_;
  ResponsePath responses_;
};

}  // namespace smbdirect::workers
