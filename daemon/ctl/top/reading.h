// SPDX-License-Identifier: MIT
// One look at a pool: what the daemon answered at one moment, as values. smbdirectctl top only; pure.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace smbdirect::daemon::top {

/// What is counted and shown as a rate. Bytes, except requests.
enum class Flow : uint8_t { requests, inline_in, inline_out, rdma_read, rdma_write };
inline constexpr size_t kFlows = 5;
using Counts = std::array<uint64_t, kFlows>;

struct WorkerReading {
  uint64_t slot = 0;
  uint64_t generation = 0;  // which process it is
  std::string state;
  bool drained = false;
  uint64_t connections = 0;
  /// When it wrote what follows, by this host's monotonic clock; nothing: it has written nothing yet.
  std::optional<int64_t> written_ms;
  Counts counts{};
};

struct ConnectionReading {
  uint64_t number = 0;
  uint64_t worker = 0;
  std::string address;  // without the port
  std::string guid;     // empty: not known
  std::optional<Counts> counts;
};

struct Reading {
  std::string version;
  std::string phase;
  std::string listeners;
  uint64_t uptime_ms = 0;
  uint64_t workers_wanted = 0;
  uint64_t workers_ready = 0;
  uint64_t clients = 0;
  std::vector<WorkerReading> workers;
  std::vector<ConnectionReading> connections;
};

/// The daemon's answers to the commands of these names. now_ms: when it answered to `workers`. The error:
/// what the daemon says, or that an answer makes no sense.
[[nodiscard]] std::expected<Reading, std::string> read_answers(std::string_view status,
                                                               std::string_view workers,
                                                               std::string_view connections, int64_t now_ms);

}  // namespace smbdirect::daemon::top
