// SPDX-License-Identifier: MIT
// What a descriptor is that smbd's module has passed on as an open file. The module is not trusted: a pipe or
// a device would block the worker, and what is open for appending writes elsewhere than it is told to. The
// descriptor is borrowed; any thread. Nothing here waits for storage, however far away it is.
#pragma once

#include <expected>
#include <sys/types.h>

namespace smbdirect::workers {

struct GrantedFile {
  bool readable = false;
  bool writable = false;
  dev_t device = 0;
  bool never_blocks = false;    // tmpfs: reads and writes find their pages in memory
  bool closes_at_once = false;  // while somebody else has it open: nothing is written back, or sent anywhere
};
/// Otherwise, why it is none to read or write here.
[[nodiscard]] std::expected<GrantedFile, const char*> look_at_granted(int fd);

}  // namespace smbdirect::workers
