// SPDX-License-Identifier: MIT
// Checks that only root and the daemon's own user can add or replace files in a directory, because they are
// trusted: the sockets of /run_directory by other programs and the server, its lock by other daemons; the
// sockets of smbds' modules by the daemon. The supervisor.
#pragma once

#include <string>
#include <sys/types.h>

#include "shm/base/result.h"

namespace smbdirect::daemon {

/// Makes it where it is missing, with its parents, for others to look into and no more, or with that mode. An
/// error with errno EPERM says that it is there and is not ours alone; any other that it cannot be had. key:
/// of the pool file, for the message.
[[nodiscard]] shm::Result<> own_directory(const std::string& path, const std::string& key = "/run_directory",
                                          mode_t mode = 0755);
/// The same of one that is there; ENOENT when it is not.
[[nodiscard]] shm::Result<> check_own_directory(const std::string& path, const std::string& key);

}  // namespace smbdirect::daemon
