// SPDX-License-Identifier: MIT
// What two readings of a pool, some time apart, say about the time between them. Pure; smbdirectctl top only.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "daemon/ctl/top/reading.h"

namespace smbdirect::daemon::top {

/// Per second, in the order of Flow.
using Rates = std::array<double, kFlows>;

struct WorkerRates {
  uint64_t slot = 0;
  std::string state;
  bool drained = false;
  uint64_t connections = 0;
  std::optional<Rates> rates;  // nothing: not known yet, or its process is another one than before
};

struct ClientRates {
  std::string guid;  // empty: the connections of this address that have no ClientGuid yet
  std::set<std::string> addresses;
  std::set<uint64_t> workers;  // slots
  uint64_t connections = 0;
  Rates rates{};  // of its connections that were open at the second reading
};

struct PoolRates {
  std::vector<WorkerRates> workers;  // by slot
  Rates all{};                       // of the workers
  std::vector<ClientRates> clients;  // those that move most first
};

/// Time is that between a worker's own two writings, so that rates do not depend on when it writes. A worker
/// that has written nothing new has rates of 0; one that is no longer there is left out.
[[nodiscard]] PoolRates rates_between(const Reading& before, const Reading& now);

}  // namespace smbdirect::daemon::top
