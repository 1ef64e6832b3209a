// SPDX-License-Identifier: MIT
// A session's exchange with stock smbd: requests one way, responses the other. Owned by one session, one
// thread.
#pragma once

#include <memory>
#include <utility>

#include "workers/session/exchange.h"
#include "workers/smbd/request_path.h"
#include "workers/smbd/response_path.h"

namespace smbdirect::workers {

class SmbdExchange final : public Exchange {
 public:
  /// open: connects to an smbd.
  SmbdExchange(SessionContext& context, const OpenUpstream& open)
      : open_(open), requests_(context), responses_(context) {}

  void on_fragment(const Fragment& fragment) override { requests_.on_fragment(fragment); }
  void on_read_done(uint64_t /*cookie*/) override { requests_.on_read_done(); }
  void on_writes_done(uint64_t /*count*/) override {}
  void resume() override { requests_.resume(); }
  [[nodiscard]] bool stalled() const override { return requests_.stalled(); }
  [[nodiscard]] Outbox& outbox() override { return requests_.outbox(); }
  [[nodiscard]] bool unfinished() const override { return requests_.unfinished(); }
  [[nodiscard]] State pump(int fd) override { return responses_.pump(fd); }
  void trim() override { responses_.trim(); }

  [[nodiscard]] shm::Result<std::unique_ptr<Upstream>> open_upstream(UpstreamRequest request) override {
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
  RequestPath requests_;
  ResponsePath responses_;
};

}  // namespace smbdirect::workers
