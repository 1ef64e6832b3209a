// SPDX-License-Identifier: MIT
// The last step of a worker's start: a system call filter. A worker that a client has taken over can then
// neither start another program nor become another process (verbs state would not survive a fork either), nor
// reach for the kernel's rarer doors. Process-wide, for the rest of its life.
#pragma once

#include "shm/result.h"

namespace smbdirect::workers {

/// After the devices are open and no_new_privs is set. A forbidden call fails with EPERM.
[[nodiscard]] shm::Result<> confine();

}  // namespace smbdirect::workers
