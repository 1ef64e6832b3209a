// SPDX-License-Identifier: MIT
// A session one of whose WRITEs waits for a thread, until the test lets go of them. A WRITE is a thread's
// business where the file system cannot say what would block, as on most disks. Owned by the test.
#pragma once

#include <optional>

#include "direct_io_rig.h"

namespace smbdirect::workers::session_test {

/// A session with a WRITE, as request 4, that waits for a thread.
struct Waiting {
  Waiting() {
    rig.write_first(3);
    threads.emplace(rig.its_loop());
    rig.from_client(slow(4));
    rig.settle();
  }
  ~Waiting() {
    threads->let_go();
    rig.until([&] { return threads->gone(); });
  }
  [[nodiscard]] Bytes slow(uint64_t id) const { return rig.write_of(id, 0, data); }

  Bytes data = pattern(10'000, 8);
  DirectIoRig rig{kDisk};
  std::optional<DirectIoRig::BusyThreads> threads;
};

}  // namespace smbdirect::workers::session_test
