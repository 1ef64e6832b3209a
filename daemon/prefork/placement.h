// SPDX-License-Identifier: MIT
// Which processor a worker runs on (/placement): the candidates, and the one among them that has the fewest
// workers. A worker's memory follows: the kernel gives a process memory of the node it runs on. Reads /sys;
// the supervisor, when it starts a worker.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "daemon/config/pool_config.h"

namespace smbdirect::daemon {

/// What is looked at; tests have a system of their own.
struct Placement {
  std::string sys = "/sys";
  /// The network interfaces with a listener's address; all but loopback's for the wildcard addresses.
  std::vector<std::string> (*interfaces_of)(const ListenerConfig& listener) = nullptr;
  /// Those that this process may use.
  std::vector<unsigned> (*usable)() = nullptr;

  /// Of this host.
  [[nodiscard]] static Placement of_this_host();

  /// In ascending order; empty: workers are not placed. With "auto" and no device that says where it is,
  /// every usable one.
  [[nodiscard]] std::vector<unsigned> candidates(const PoolConfig& config) const;

 private:
  [[nodiscard]] std::vector<unsigned> near(const std::string& interface, int depth) const;
};

/// The candidate that is least often in `taken`, the first of several; nothing where there is none.
[[nodiscard]] std::optional<unsigned> least_taken(const std::vector<unsigned>& candidates,
                                                  const std::vector<unsigned>& taken);

}  // namespace smbdirect::daemon
