// SPDX-License-Identifier: MIT
// libuv's threads, for reads and writes of files that would block the loop. They are started before the
// worker is confined, so that they have its credentials and its filter from their first request on, and none
// starts later. Of the process.
#pragma once

#include "shm/base/result.h"

namespace smbdirect::workers {

/// As many as libuv starts by itself, whatever the environment says: they wait for disks, and the worker's
/// connections share them. Each has 8 MiB of address space for its stack, of which it touches a few pages.
inline constexpr int kThreads = 4;

/// Call after the last change of credentials and before confine(). They run until the process ends.
[[nodiscard]] shm::Result<> start_thread_pool();

}  // namespace smbdirect::workers
