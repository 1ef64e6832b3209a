// SPDX-License-Identifier: MIT
// Handles the workers' requests for links to the modules of the smbds that serve their connections: only for
// connections that the worker really has, one at a time for each, and not faster than a pool with work to do
// would ask. Owned by the supervisor; its loop's thread. When it dies, workers go on without links.
//
// What is believed of a request is the descriptor that comes with it, as the kernel describes it: who has one
// end of a stream to an smbd may have a link to that smbd's module, and nobody else.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <utility>

#include "daemon/config/pool_config.h"
#include "daemon/contract/contract.h"
#include "daemon/prefork/connection_table.h"
#include "daemon/upstream/module_search.h"
#include "shm/base/connection_id.h"
#include "shm/base/log.h"
#include "shm/base/result.h"
#include "shm/base/unique_fd.h"
#include "shm/loop/loop.h"
#include "shm/token_buckets.h"
#include "shm/totals.h"

namespace smbdirect::daemon {

class ModuleRequests {
 public:
  using Tell = std::function<shm::Result<>(size_t slot, const FromSupervisor& message, int descriptor)>;

  ModuleRequests(shm::Loop& loop, const PoolConfig& config, const ConnectionTable& table, Tell tell);

  /// Makes the directory, where it is this daemon's to make.
  void open() const;
  /// WANT_MODULE. Without a descriptor: it found no room in our table.
  void wanted(size_t slot, shm::ConnectionId connection, shm::UniqueFd stream);
  /// The connection or its worker has ended: the link is no longer wanted.
  void forget(size_t slot, shm::ConnectionId connection);
  void forget_worker(size_t slot);
  void close();

  [[nodiscard]] shm::Totals totals() const;

 private:
  using Key = std::pair<size_t, shm::ConnectionId>;  // slot, connection

  [[nodiscard]] bool in_use() const;
  void answer(const Key& key, const shm::Host& smbd, shm::Result<shm::UniqueFd> link);
  void refuse(const Key& key, const shm::Error& why);
  void tell(size_t slot, const FromSupervisor& message, int descriptor);

  shm::Loop& loop_;
  const PoolConfig& config_;
  const ConnectionTable& table_;
  Tell tell_;
  std::map<Key, uint64_t> asked_for_;  // -> the search's number
  ModuleSearch search_;                // after asked_for_: its callbacks end first
  TokenBuckets rate_;                  // of each worker
  shm::log::Limited log_;
  uint64_t asked_ = 0;
  uint64_t linked_ = 0;
};

}  // namespace smbdirect::daemon
