// SPDX-License-Identifier: MIT
// How long operations take: the one table of the kinds that workers measure, and histograms of fixed size,
// which they count in and the scoreboard shows. Recording is an addition or two: no lock, no allocation.
// Constant data and plain values; any process. A new kind goes at the end.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace smbdirect::shm {

// X(name, what is measured)
// clang-format off
#define SMBDIRECT_OPERATIONS(X)                                                                          \
  X(smb_read, "SMB2 READ: from the request's last byte on its way to smbd to the first of its answer")   \
  X(smb_write, "SMB2 WRITE: likewise")                                                                   \
  X(smb_other, "Other SMB2 requests: likewise, without those that smbd says it keeps waiting")           \
  X(rdma_read, "RDMA READ: from posting it to its completion")                                           \
  X(rdma_write, "RDMA WRITE: likewise")
// clang-format on

/// An index into Latencies.
enum class Operation : uint16_t {
#define SMBDIRECT_INDEX(name, help) name,
  SMBDIRECT_OPERATIONS(SMBDIRECT_INDEX)
#undef SMBDIRECT_INDEX
};

struct OperationRow {
  std::string_view name;
  std::string_view help;
};
/// By index.
inline constexpr auto kOperationTable = std::to_array<OperationRow>({
#define SMBDIRECT_ROW(name, help) {#name, help},
    SMBDIRECT_OPERATIONS(SMBDIRECT_ROW)
#undef SMBDIRECT_ROW
});
inline constexpr size_t kOperations = kOperationTable.size();

/// Each bucket's upper bound is twice that of the one before: 16 us, 32 us, ... 16.8 s. One more bucket has
/// what took longer.
inline constexpr size_t kLatencyBounds = 21;
inline constexpr unsigned kFirstBoundBits = 4;
[[nodiscard]] constexpr uint64_t latency_bound_us(size_t bucket) {
  return uint64_t{1} << (kFirstBoundBits + bucket);
}
[[nodiscard]] constexpr size_t latency_bucket(uint64_t microseconds) {
  if (microseconds <= latency_bound_us(0)) return 0;
  return std::min<size_t>(size_t(std::bit_width(microseconds - 1)) - kFirstBoundBits, kLatencyBounds);
}

/// Words only: it lies in shared memory as it is.
struct LatencyHistogram {
  uint64_t sum_us = 0;
  std::array<uint64_t, kLatencyBounds + 1> counts{};

  void record(uint64_t microseconds) {
    sum_us += microseconds;
    ++counts[latency_bucket(microseconds)];
  }
  bool operator==(const LatencyHistogram&) const = default;
};

/// By Operation.
using Latencies = std::array<LatencyHistogram, kOperations>;
static_assert(sizeof(Latencies) == kOperations * (kLatencyBounds + 2) * sizeof(uint64_t));

}  // namespace smbdirect::shm
