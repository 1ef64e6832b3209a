// SPDX-License-Identifier: MIT
#include "tests/unit/workers/fake_clock.h"

#include <cstdlib>
#include <ctime>
#include <sys/syscall.h>
#include <unistd.h>

namespace {

constexpr int64_t kMillion = 1'000'000;
bool stands = false;
int64_t stands_at_ms = 0;

bool monotonic(clockid_t clock) { return clock == CLOCK_MONOTONIC || clock == CLOCK_MONOTONIC_COARSE; }

}  // namespace

// In place of the C library's, also for the shared libraries of this program.
extern "C" int clock_gettime(clockid_t clock, timespec* now) noexcept {
  if (stands && monotonic(clock)) {
    *now = {stands_at_ms / 1000, (stands_at_ms % 1000) * kMillion};
    return 0;
  }
  return static_cast<int>(syscall(SYS_clock_gettime, clock, now));
}

namespace smbdirect::workers::fake {

FakeClock::FakeClock() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  stands_at_ms = now.tv_sec * 1000 + now.tv_nsec / kMillion;
  stands = true;
}

FakeClock::~FakeClock() { stands = false; }

void FakeClock::advance(uint64_t ms) { stands_at_ms += static_cast<int64_t>(ms); }

}  // namespace smbdirect::workers::fake
