// SPDX-License-Identifier: MIT
// Runs a short program to its end and returns its output; blocks, so at start only. Supervisor.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "shm/base/result.h"

namespace smbdirect::daemon {

struct ProgramOutput {
  int wait_status = 0;  // waitpid(2)
  std::string out;
  std::string err;
};

/// An error when it cannot be started or does not end in time; then it is killed. Its exit status is the
/// caller's to judge.
[[nodiscard]] shm::Result<ProgramOutput> run_program(const std::string& program,
                                                     const std::vector<std::string>& arguments,
                                                     uint32_t deadline_ms);

}  // namespace smbdirect::daemon
