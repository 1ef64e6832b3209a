// SPDX-License-Identifier: MIT
// One question to a daemon's control socket. smbdirectctl only; blocks, for a bounded time.
#pragma once

#include <string>

#include "daemon/ctl/commands.h"
#include "shm/base/result.h"

namespace smbdirect::daemon {

/// The daemon's line. The error says what to do.
[[nodiscard]] shm::Result<std::string> ask_daemon(const std::string& socket, const CtlRequest& request);

}  // namespace smbdirect::daemon
