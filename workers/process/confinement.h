// SPDX-License-Identifier: MIT
// The last step of a worker's start: a system call filter, which is a list of what is allowed
// (allowed_calls.h). A worker that a client has taken over can then neither start another program nor become
// or reach another process (verbs state would not survive a fork either), nor make sockets other than those
// that its pool needs, nor use rarer system calls. The filter applies to every thread, until the process
// ends.
#pragma once

#include "shm/base/result.h"

namespace smbdirect::workers {

/// What besides the common calls this worker needs.
struct Needs {
  bool dials = true;  // it connects to the server itself (mode "connect"): TCP sockets
  bool verbs = true;  // RDMA devices: the kernel's RDMA netlink
};

/// Call before the loop is made: io_uring operations bypass every filter, so the filter allows no ring. libuv
/// since 1.45 makes a ring with its loop if it can, aborts when it cannot use it, and works without when it
/// cannot make one. Sets no_new_privs. Errors: the kernel's.
[[nodiscard]] shm::Result<> do_without_io_uring();

/// After the devices are open and no_new_privs is set. A call that is not allowed fails with EPERM, one that
/// is newer than this program with ENOSYS.
[[nodiscard]] shm::Result<> confine(const Needs& needs = {});

}  // namespace smbdirect::workers
