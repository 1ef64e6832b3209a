// SPDX-License-Identifier: MIT
// --probe: one SMB Direct connection set up, described and closed again. Runs the loop itself.
#pragma once

#include <string>

#include <uv.h>

#include "shm/base/result.h"
#include "workers/connect/options.h"

namespace smbdirect::workers::connect {

/// What was agreed, several lines for a person. The error says what failed and what to try.
[[nodiscard]] shm::Result<std::string> probe(uv_loop_t& loop, const Options& options);

}  // namespace smbdirect::workers::connect
