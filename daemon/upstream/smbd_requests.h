// SPDX-License-Identifier: MIT
// Handles the workers' requests for streams to smbd (upstream modes "transparent" and "handoff"): only for
// connections that the worker really has, and once for each, with a stream on which smbd sees that
// connection's client. Owned by the supervisor; its loop's thread. When it dies, workers that wait time out.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <utility>
#include <vector>

#include "daemon/config/pool_config.h"
#include "daemon/prefork/connection_table.h"
#include "daemon/prefork/worker_pool.h"
#include "daemon/upstream/smbd_connector.h"
#include "shm/base/connection_id.h"
#include "shm/base/log.h"
#include "shm/loop/loop.h"
#include "shm/token_buckets.h"
#include "shm/totals.h"

namespace smbdirect::daemon {

class SmbdRequests {
 public:
  /// There is no connector in mode "connect", where requests are refused.
  SmbdRequests(shm::Loop& loop, const PoolConfig& config, WorkerPool& workers, const ConnectionTable& table);

  void open(std::unique_ptr<SmbdConnector> connector) { connector_ = std::move(connector); }
  /// The configuration that it was made with has changed.
  void configuration_changed(const PoolConfig& before);
  /// WANT_SMBD.
  void wanted(size_t slot, shm::ConnectionId connection);
  /// SESSION_UP: the connection does not count for the rate.
  void session_up(size_t slot, shm::ConnectionId connection);
  /// The connection or its worker has ended: the stream is no longer wanted.
  void forget(size_t slot, shm::ConnectionId connection);
  void forget_worker(size_t slot);
  void close();

  [[nodiscard]] shm::Totals totals() const;

 private:
  using Key = std::pair<size_t, shm::ConnectionId>;  // slot, connection

  void answer(const Key& key, shm::Result<shm::UniqueFd> stream);
  void not_told(size_t slot, const shm::Error& error);
  void refuse(const Key& key, const std::string& why, int error);
  [[nodiscard]] sockaddr_storage server_for(const ConnectionTable::Addresses& addresses) const;

  shm::Loop& loop_;
  const PoolConfig& config_;
  WorkerPool& workers_;
  const ConnectionTable& table_;
  std::map<Key, uint64_t>
      asked_for_;         // -> the connector's number, 0 once it has answered; until the connection ends
  std::set<Key> let_in_;  // of those, whose clients have a session
  std::unique_ptr<SmbdConnector> connector_;  // after asked_for_: its callbacks end first
  TokenBuckets rate_;                         // of processes that are started for it
  shm::log::Limited log_;
  uint64_t asked_ = 0;
  uint64_t opened_ = 0;
  uint64_t failed_ = 0;
};

}  // namespace smbdirect::daemon
