// SPDX-License-Identifier: MIT
// An smbd that mode "handoff" starts inherits what the daemon's unit or container has taken away: does it
// serve its clients what the listening smbd serves them? Reads /proc; supervisor.
#pragma once

#include <string>
#include <sys/types.h>

namespace smbdirect::daemon {

/// What an smbd started by this process would have otherwise than the process `smbd`, and which settings do
/// that; empty: nothing that can be seen.
[[nodiscard]] std::string differences_from(pid_t smbd);

}  // namespace smbdirect::daemon
