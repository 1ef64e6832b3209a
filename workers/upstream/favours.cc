// SPDX-License-Identifier: MIT
#include "workers/upstream/favours.h"

#include <cassert>
#include <cerrno>
#include <utility>

#include "shm/loop/uv_handles.h"

namespace smbdirect::workers {

class Favours::Request final : public Upstream {
 public:
  Request(Favours& favours, uint64_t offer)
      : favours_(favours), offer_(offer), timer_(favours.loop_, [this] {
          finish(shm::fail("waiting for the supervisor's connection to smbd", ETIMEDOUT));
        }) {}
  ~Request() override { favours_.waiting_.erase(offer_); }

  void start(Done done) override {
    done_ = std::move(done);
    favours_.waiting_[offer_] = this;
    timer_.start(favours_.timeout_ms_);
    favours_.ask_(offer_);
  }
  void finish(shm::Result<shm::UniqueFd> stream) {
    favours_.waiting_.erase(offer_);
    timer_.stop();
    const Done done = std::move(done_);  // the callback may destroy this object
    done(std::move(stream));
  }

 private:
  Favours& favours_;
  uint64_t offer_;
  Timer timer_;
  Done done_;
};

Favours::Favours(uv_loop_t& loop, std::function<void(uint64_t offer)> ask, uint32_t timeout_ms)
    : loop_(loop), ask_(std::move(ask)), timeout_ms_(timeout_ms) {}

Favours::~Favours() { assert(waiting_.empty()); }

std::unique_ptr<Upstream> Favours::request(uint64_t offer) { return std::make_unique<Request>(*this, offer); }

void Favours::answered(uint64_t offer, shm::Result<shm::UniqueFd> stream) {
  const auto found = waiting_.find(offer);
  if (found != waiting_.end()) found->second->finish(std::move(stream));
}

}  // namespace smbdirect::workers
