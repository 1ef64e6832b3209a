// SPDX-License-Identifier: MIT
#include "shm/loop/busy_poll.h"

#include <algorithm>
#include <stdexcept>
#include <string>
#include <utility>

#include "shm/base/processors.h"

namespace smbdirect::shm {
namespace {

/// A handle that is not what keeps the loop running.
template <class Handle>
UvOwner<UvBox<Handle>> made(uv_loop_t& loop, int (*init)(uv_loop_t*, Handle*), const char* call,
                            std::function<void()> callback) {
  auto box = std::make_unique<UvBox<Handle>>(std::move(callback));
  if (const int error = init(&loop, &box->handle); error < 0)
    throw std::runtime_error(std::string(call) + ": " + uv_strerror(error));
  uv_unref(reinterpret_cast<uv_handle_t*>(&box->handle));
  return UvOwner<UvBox<Handle>>(box.release());
}

}  // namespace

BusyPoll::Senses BusyPoll::real() {
  const auto processors = std::make_shared<const Processors>();
  return {.clock = uv_hrtime, .processors_suffice = [processors] { return processors->suffice(); }};
}

BusyPoll::BusyPoll(uv_loop_t& loop, uint32_t most_us, Senses senses)
    : loop_(loop),
      most_(uint64_t{most_us} * 1000),
      senses_(std::move(senses)),
      keeps_awake_(made(loop, uv_idle_init, "uv_idle_init", {})),
      before_(made(loop, uv_prepare_init, "uv_prepare_init", [this] { before_polling(); })),
      after_(made(loop, uv_check_init, "uv_check_init", [this] { after_polling(); })) {}

void BusyPoll::expect() {
  if (most_ == 0) return;
  const uint64_t now = senses_.clock();
  wait_over(now);
  expected_ = now;
  if (!std::exchange(watches_, true)) {
    uv_prepare_start(&before_->handle, UvBox<uv_prepare_t>::run);
    uv_check_start(&after_->handle, UvBox<uv_check_t>::run);
  }
  if (limit_ > 0 && !awake_ && !crowded(now)) {
    awake_ = true;
    uv_idle_start(&keeps_awake_->handle, UvBox<uv_idle_t>::run);
  }
}

bool BusyPoll::crowded(uint64_t now) {
  if (now >= look_at_) {
    crowded_looks_ = senses_.processors_suffice() ? 0 : crowded_looks_ + 1;
    look_at_ = now + (crowded_looks_ >= kCrowdedLooks ? kCrowdedFor : kLookEvery);
  }
  return crowded_looks_ >= kCrowdedLooks;
}

void BusyPoll::before_polling() {
  if (awake_) {
    const uint64_t now = senses_.clock();
    if (now - expected_ >= limit_ || crowded(now)) sleep(now);
  }
  sleeps_ = uv_backend_timeout(&loop_) != 0;  // others may keep it awake
}

void BusyPoll::sleep(uint64_t now) {
  idled_ += now - expected_;
  awake_ = false;
  uv_idle_stop(&keeps_awake_->handle);
}

/// What came has not called expect().
void BusyPoll::after_polling() {
  if (!sleeps_) return;
  wait_over(senses_.clock());
  watches_ = false;
  uv_prepare_stop(&before_->handle);
  uv_check_stop(&after_->handle);
}

void BusyPoll::wait_over(uint64_t now) {
  if (std::exchange(sleeps_, false)) learn(now - expected_);
}

void BusyPoll::learn(uint64_t waited) {
  if (waited < most_) {
    limit_ = std::min(most_, std::max(kFirst, 2 * limit_));
  } else {
    limit_ /= 2;
    if (limit_ < kFirst) limit_ = 0;
  }
}

}  // namespace smbdirect::shm
