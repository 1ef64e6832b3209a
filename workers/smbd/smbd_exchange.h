// SPDX-License-Identifier: MIT
// A session's exchange with stock smbd: requests one way, responses the other. Owned by one session, one
// thread.
#pragma once

#include "workers/session/exchange.h"
#include "workers/smbd/request_path.h"
#include "workers/smbd/response_path.h"

namespace smbdirect::workers {

class SmbdExchange final : public Exchange {
 public:
  explicit SmbdExchange(SessionContext& context) : requests_(context), responses_(context) {}

  void on_fragment(const Fragment& fragment) override { requests_.on_fragment(fragment); }
  void on_read_done(uint64_t /*cookie*/) override { requests_.on_read_done(); }
  void on_writes_done(uint64_t /*count*/) override {}
  void resume() override { requests_.resume(); }
  [[nodiscard]] bool stalled() const override { return requests_.stalled(); }
  [[nodiscard]] Outbox& outbox() override { return requests_.outbox(); }
  [[nodiscard]] bool unfinished() const override { return requests_.unfinished(); }
  [[nodiscard]] State pump(int fd) override { return responses_.pump(fd); }
  void trim() override { responses_.trim(); }

 private:
  RequestPath requests_;
  ResponsePath responses_;
};

}  // namespace smbdirect::workers
