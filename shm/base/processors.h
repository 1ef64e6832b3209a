// SPDX-License-Identifier: MIT
// Whether the machine's processors suffice for all that wants to run on them at this moment, as /proc/loadavg
// has it (the fourth field, proc(5)): for those who would rather wait awake. Owned by whoever asks, which may
// be a process that can open no file any more; without the file the answer is no, for ever.
#pragma once

#include <string_view>

#include "shm/base/unique_fd.h"

namespace smbdirect::shm {

class Processors {
 public:
  Processors();
  /// One is left, or is what the caller has. A system call of some microseconds.
  [[nodiscard]] bool suffice() const;

 private:
  UniqueFd load_;
  long online_;
};

/// Threads that run or would, of "0.20 0.18 0.12 1/80 11206"; negative: it is not of that form.
[[nodiscard]] long running_of(std::string_view loadavg);

}  // namespace smbdirect::shm
