// SPDX-License-Identifier: MIT
// Checks that only root and the daemon's own user can add or replace files in /run_directory, because they
// are trusted: its sockets by other programs and the server, its lock by other daemons. The supervisor, at
// its start.
#pragma once

#include <string>

#include "shm/base/result.h"

namespace smbdirect::daemon {

/// Makes it where it is missing, with its parents, for others to look into and no more. An error with errno
/// EPERM says that it is there and is not ours alone; any other that it cannot be had.
[[nodiscard]] shm::Result<> own_directory(const std::string& path);

}  // namespace smbdirect::daemon
