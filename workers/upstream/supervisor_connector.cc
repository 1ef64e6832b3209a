// SPDX-License-Identifier: MIT
#include "workers/upstream/supervisor_connector.h"

#include <cassert>
#include <cerrno>
#include <utility>

#include "shm/loop/loop.h"

namespace smbdirect::workers {

class SupervisorConnector::Request final : public Upstream {
 public:
  Request(SupervisorConnector& connector, shm::ConnectionId connection)
      : connector_(connector), connection_(connection), timer_(connector.loop_, [this] {
          finish(shm::fail("waiting for the supervisor to connect to smbd", ETIMEDOUT));
        }) {}
  ~Request() override { connector_.waiting_.erase(connection_); }

  void start(Done done) override {
    done_ = std::move(done);
    connector_.waiting_[connection_] = this;
    timer_.start(connector_.timeout_ms_);
    connector_.ask_(connection_);
  }
  void finish(shm::Result<shm::UniqueFd> stream) {
    connector_.waiting_.erase(connection_);
    timer_.stop();
    const Done done = std::move(done_);  // the callback may destroy this object
    done(std::move(stream));
  }

 private:
  SupervisorConnector& connector_;
  shm::ConnectionId connection_;
  shm::Timer timer_;
  Done done_;
};

SupervisorConnector::SupervisorConnector(uv_loop_t& loop,
                                         std::function<void(shm::ConnectionId connection)> ask,
                                         uint32_t timeout_ms)
    : loop_(loop), ask_(std::move(ask)), timeout_ms_(timeout_ms) {}

SupervisorConnector::~SupervisorConnector() { assert(waiting_.empty()); }

std::unique_ptr<Upstream> SupervisorConnector::request(shm::ConnectionId connection) {
  return std::make_unique<Request>(*this, connection);
}

void SupervisorConnector::answered(shm::ConnectionId connection, shm::Result<shm::UniqueFd> stream) {
  const auto found = waiting_.find(connection);
  if (found != waiting_.end()) found->second->finish(std::move(stream));
}

}  // namespace smbdirect::workers
