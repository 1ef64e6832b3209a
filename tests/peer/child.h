// SPDX-License-Identifier: MIT
// What the processes that serve clients do: a child that was forked for a start, and one that adopts
// channels. Each is a process of its own from here to its exit status.
#pragma once

#include "handles.h"
#include "options.h"

namespace smbdirect::tests::peer {

/// A child: opens the channel of `start` and serves its client until the last channel has ended, or passes it
/// on. A byte goes to `opened` when the channel is open: from then on the child's end is no failure to start.
[[nodiscard]] int run_child(const smbdirect_start& start, Fd opened, const Options& options);

/// Serves what children of other main processes pass to options.adopt. Until SIGTERM.
[[nodiscard]] int run_adopter(const Options& options);

}  // namespace smbdirect::tests::peer
