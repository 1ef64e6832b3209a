// SPDX-License-Identifier: MIT
// The words between the two roles of the test program handover: a listener that owns the listening file, and
// workers that it starts, each with a dup of its own hand-over file and a control socket, and nothing else.
#pragma once

#include <cstdint>

#include "daemon/contract/rdma_ucm.h"

namespace handover {

inline constexpr int kHandoverFd = 3;
inline constexpr int kControlFd = 4;

/// listener -> worker, one datagram each.
struct Order {
  enum class What : uint8_t {
    accept,    // take the request over and accept it
    take,      // only try MIGRATE_ID, and say what came of it
    write_on,  // write commands about the id on the hand-over file itself, and say what came of it
  };
  What what{};
  uint32_t id = 0;
  smbdirect::daemon::CmParameters parameters{};
};

/// worker -> listener: a line of text in one datagram.
inline constexpr size_t kMostText = 512;

/// As a worker: never returns before the listener is gone and its connections have ended.
int run_worker();

}  // namespace handover
