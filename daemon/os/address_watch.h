// SPDX-License-Identifier: MIT
// Tells when this host may have lost IP addresses (RTM_DELADDR, in the network namespace of the process): who
// depends on one looks whether it is there (own_address.h). Owned by the supervisor; its loop's thread. Holds
// a netlink socket, which ends with the process.
//
// The kernel tells of an address before it has quite gone, and drops what it has to tell when too much waits.
// So nobody is told which address it was, and all look again a little later.
#pragma once

#include <cstddef>
#include <functional>

#include "shm/base/result.h"
#include "shm/loop/loop.h"
#include "shm/loop/watched.h"

namespace smbdirect::daemon {

class AddressWatch {
 public:
  /// look: at all addresses that matter.
  AddressWatch(shm::Loop& loop, std::function<void()> look);
  /// The error: addresses that go are not noticed.
  [[nodiscard]] shm::Result<> start();
  void stop();

 private:
  void read();
  void due();

  shm::Loop& loop_;
  std::function<void()> look_;
  shm::Watched<shm::UniqueFd> socket_;
  shm::Timer timer_;
  size_t looks_ = 0;  // since something was told
};

/// The sysctl, "net.ipv4.ip_nonlocal_bind", by which this host takes every address for its own, so that none
/// is seen to go; null: it does not.
[[nodiscard]] const char* takes_every_address();

}  // namespace smbdirect::daemon
