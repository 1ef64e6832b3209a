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

/// A WRITE, as request 5, of which what has come first waits for a thread, while the rest has come as well.
struct Ahead {
  static constexpr uint32_t kLarge = 2'500'000;

  Ahead() {
    rig.write_first(3);
    rig.from_client(rig.write_of(4, 0, pattern(10, 1)));
    rig.until([&] { return rig.client_side.complete == 1; });
    rig.client_side = {};
    threads.emplace(rig.its_loop());
    rig.from_client(rig.write_from(5, 0, kLarge, {rig.expose(memory, Access::remote_read)}));
    rig.settle();
  }
  ~Ahead() {
    threads->let_go();
    while (!threads->gone()) uv_run(&rig.its_loop(), UV_RUN_ONCE);
  }

  Bytes memory = pattern(kLarge, 3);
  DirectIoRig rig{kDisk};
  std::optional<DirectIoRig::BusyThreads> threads;
};

}  // namespace smbdirect::workers::session_test
