// SPDX-License-Identifier: MIT
// Which devices the loop's own thread may write to (shm/loop/relief.h): each, until a call has held it up;
// then no more for a while, which is the longer the sooner that comes again. So a disk that is slow costs
// everybody else a millisecond now and then. Owned by FileThreads; one thread.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <sys/types.h>

namespace smbdirect::workers {

class DiskPace {
 public:
  static constexpr uint64_t kShortestMs = 100, kLongestMs = 10'000;

  /// now: milliseconds, of which only differences count.
  [[nodiscard]] bool quick(dev_t device, uint64_t now) const {
    const auto at = disks_.find(device);
    return at == disks_.end() || now >= at->second.until;
  }
  void held_up(dev_t device, uint64_t now) {
    if (!disks_.contains(device) && disks_.size() >= kMost)
      disks_.erase(std::ranges::min_element(disks_, {}, [](const auto& disk) { return disk.second.until; }));
    Disk& disk = disks_[device];
    const bool soon = disk.pause > 0 && now < disk.until + kAgain * disk.pause;
    disk.pause = soon ? std::min(2 * disk.pause, kLongestMs) : kShortestMs;
    disk.until = now + disk.pause;
  }

 private:
  struct Disk {
    uint64_t pause = 0;  // the last one
    uint64_t until = 0;
  };
  static constexpr uint64_t kAgain = 4;  // pauses
  static constexpr size_t kMost = 64;

  std::map<dev_t, Disk> disks_;
};

}  // namespace smbdirect::workers
