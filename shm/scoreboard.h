// SPDX-License-Identifier: MIT
// The published state of one worker: its phase, a heartbeat, its counters and histograms, and a row for each
// connection, in shared memory that the worker alone writes and the supervisor, the control program and the
// metrics exporter map read-only, from the descriptor the worker passes on. Writing is a few dozen stores: no
// system call, no lock, no waiting. When the worker dies, the last state stays readable while any process
// holds the descriptor; a part that was being changed is a miss. A reader does not trust the worker: a part
// with invalid values is a miss, too.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "shm/area_state.h"
#include "shm/base/connection_id.h"
#include "shm/base/guid.h"
#include "shm/base/socket_address.h"
#include "shm/counter_table.h"
#include "shm/direct_state.h"
#include "shm/latency_table.h"
#include "shm/seqlock.h"
#include "shm/shared_map.h"

namespace smbdirect::shm {

enum class WorkerPhase : uint8_t { starting, ready, draining, stopping };
inline constexpr std::array<std::string_view, 4> kWorkerPhases{"starting", "ready", "draining", "stopping"};

enum class ConnectionPhase : uint8_t {
  negotiating,  // no first request yet
  waiting,      // another connection of its client decides where it goes
  connecting,   // to the upstream server
  serving,
  closing,
};
inline constexpr std::array<std::string_view, 5> kConnectionPhases{"negotiating", "waiting", "connecting",
                                                                   "serving", "closing"};

/// area_in is part of rdma_read and area_out of rdma_write: what went by memory shared with smbd. direct_in
/// and direct_out are parts of what comes in and goes out, either way: what the worker wrote and read itself.
enum class Transfer : uint8_t {
  inline_in,
  inline_out,
  rdma_read,
  rdma_write,
  area_in,
  area_out,
  direct_in,
  direct_out,
};
inline constexpr std::array<std::string_view, 8> kTransfers{
    "inline_in", "inline_out", "rdma_read", "rdma_write", "area_in", "area_out", "direct_in", "direct_out"};

/// Who the worker is; never changes.
struct ScoreboardIdentity {
  uint32_t slot = 0;
  uint32_t generation = 0;
  uint32_t pid = 0;
  bool operator==(const ScoreboardIdentity&) const = default;
};

struct WorkerSummary {
  WorkerPhase phase{};
  std::array<uint64_t, kConnectionPhases.size()> connections{};  // by phase
  CounterValues counters{};
  Latencies latencies{};
  bool operator==(const WorkerSummary&) const = default;
};

struct ConnectionRow {
  ConnectionId connection{};
  ConnectionPhase phase{};
  AreaState area{};
  DirectState direct{};
  Host peer{};
  uint16_t peer_port = 0;
  // The connection to the upstream server; its other end's process is found by them.
  uint16_t upstream_local_port = 0;
  uint16_t upstream_remote_port = 0;
  Guid guid{};  // zero: not known
  uint64_t since_ms = 0;
  uint32_t receive_credits = 0;  // the peer may send
  uint32_t send_credits = 0;     // we may send
  uint64_t requests = 0;
  uint32_t direct_files = 0;  // open for it now
  uint64_t direct_reads = 0;
  uint64_t direct_writes = 0;
  std::array<uint64_t, kTransfers.size()> bytes{};
  bool operator==(const ConnectionRow&) const = default;
};

inline constexpr size_t kScoreboardRows = 1024;

class ScoreboardWriter {
 public:
  [[nodiscard]] static Result<ScoreboardWriter> create(const ScoreboardIdentity& identity,
                                                       size_t rows = kScoreboardRows);
  [[nodiscard]] int fd() const { return map_.fd(); }

  /// That the loop turns: monotonic milliseconds.
  void beat(uint64_t now_ms);
  void publish(const WorkerSummary& summary);

  /// A row for one more connection; nothing when all are taken: it goes on without being shown.
  [[nodiscard]] std::optional<size_t> open_row(const ConnectionRow& row);
  void update_row(size_t index, const ConnectionRow& row);
  void close_row(size_t index);

 private:
  ScoreboardWriter(SharedMap map, size_t rows);
  void write(size_t sequence_index, std::span<const uint64_t> words);

  SharedMap map_;
  std::vector<bool> taken_;
  std::vector<uint32_t> free_;
};

class ScoreboardReader {
 public:
  /// The descriptor is borrowed for the call. What is not a sealed scoreboard of this version, with this
  /// program's counters, is an error.
  [[nodiscard]] static Result<ScoreboardReader> open(int fd);

  [[nodiscard]] const ScoreboardIdentity& identity() const { return identity_; }
  [[nodiscard]] uint64_t heartbeat_ms() const;
  [[nodiscard]] std::optional<WorkerSummary> summary() const;
  [[nodiscard]] size_t rows() const { return rows_; }
  /// Nothing: no connection has this row, or it could not be read.
  [[nodiscard]] std::optional<ConnectionRow> row(size_t index) const;

 private:
  ScoreboardReader(SharedMap map, const ScoreboardIdentity& identity, size_t rows)
      : map_(std::move(map)), identity_(identity), rows_(rows) {}

  SharedMap map_;
  ScoreboardIdentity identity_;
  size_t rows_;
};

}  // namespace smbdirect::shm
