// SPDX-License-Identifier: MIT
// A clock that stands until the test moves it, for libuv and everything else in this program that asks
// clock_gettime() for a monotonic time. Off until FakeClock exists: then real time again. One thread.
#pragma once

#include <cstdint>

#include <uv.h>

namespace smbdirect::workers::fake {

class FakeClock {
 public:
  FakeClock();
  ~FakeClock();
  FakeClock(const FakeClock&) = delete;
  FakeClock& operator=(const FakeClock&) = delete;
  void advance(uint64_t ms);
};

}  // namespace smbdirect::workers::fake
