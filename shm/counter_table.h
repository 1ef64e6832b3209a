// SPDX-License-Identifier: MIT
// What workers count: the one table of names, texts and kinds. Counters in a process, rows of the scoreboard,
// log lines, JSON and metrics all come from it. Constant data; any process. A new counter goes at the end.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace smbdirect::shm {

enum class CounterKind : uint8_t { counter, gauge };

// X(name, kind, help)
// clang-format off
#define SMBDIRECT_COUNTERS(X)                                                                            \
  X(connections, counter, "SMB Direct connections established")                                          \
  X(smb_requests, counter, "SMB2 requests (PDUs) from client to server")                                 \
  X(smb_responses, counter, "SMB2 responses (PDUs) from server to client")                               \
  X(fragments_sent, counter, "data messages sent that carry payload")                                    \
  X(fragments_received, counter, "data messages received that carry payload")                            \
  X(empties_sent, counter, "messages sent without payload (credits, keepalive)")                         \
  X(empties_received, counter, "messages received without payload")                                      \
  X(credits_granted, counter, "receive credits granted to the peer")                                     \
  X(credits_received, counter, "send credits granted by the peer")                                       \
  X(bytes_inline_sent, counter, "payload bytes sent inside messages")                                    \
  X(bytes_inline_received, counter, "payload bytes received inside messages")                            \
  X(rdma_reads, counter, "RDMA READs (client memory to server)")                                         \
  X(rdma_read_bytes, counter, "payload bytes moved by RDMA READ")                                        \
  X(rdma_writes, counter, "RDMA WRITEs (server to client memory)")                                       \
  X(rdma_write_bytes, counter, "payload bytes moved by RDMA WRITE")                                      \
  X(invalidates, counter, "tokens invalidated by SEND with Invalidate")                                  \
  X(fpdus_sent, counter, "iWARP FPDUs sent")                                                             \
  X(fpdus_received, counter, "iWARP FPDUs received")                                                     \
  X(copied_bytes, counter, "payload bytes copied in userspace")                                          \
  X(area_reads, counter, "READs whose data came by memory shared with smbd")                             \
  X(area_read_bytes, counter, "payload bytes of these")                                                  \
  X(area_writes, counter, "WRITEs whose data went by memory shared with smbd")                           \
  X(area_write_bytes, counter, "payload bytes of these")                                                 \
  X(direct_reads, counter, "READs that the worker did on the open file itself")                          \
  X(direct_read_bytes, counter, "payload bytes of these")                                                \
  X(direct_uncopied_bytes, counter, "of these, bytes that were sent from the page cache itself")         \
  X(direct_writes, counter, "WRITEs that the worker did on the open file itself")                        \
  X(direct_write_bytes, counter, "payload bytes of these")                                               \
  X(direct_grants, counter, "open files that smbd's module has granted for this")                        \
  X(direct_revocations, counter, "times that it has taken a right to read or write one back")            \
  X(direct_idle_us, counter, "microseconds that the worker stayed awake for such requests in vain")      \
  X(direct_held_up, counter, "times that such a request held up the worker's loop, until another thread took it")
// clang-format on

/// An index into an array of counters.
enum class Counter : uint16_t {
#define SMBDIRECT_INDEX(name, kind, help) name,
  SMBDIRECT_COUNTERS(SMBDIRECT_INDEX)
#undef SMBDIRECT_INDEX
};

struct CounterRow {
  std::string_view name;
  CounterKind kind;
  std::string_view help;
};
/// By index.
inline constexpr auto kCounterTable = std::to_array<CounterRow>({
#define SMBDIRECT_ROW(name, kind, help) {#name, CounterKind::kind, help},
    SMBDIRECT_COUNTERS(SMBDIRECT_ROW)
#undef SMBDIRECT_ROW
});
inline constexpr size_t kCounters = kCounterTable.size();
using CounterValues = std::array<uint64_t, kCounters>;

/// As Prometheus names it: "smbdirect_rdma_reads_total", a gauge without "_total".
[[nodiscard]] inline std::string metric_name(const CounterRow& row) {
  return "smbdirect_" + std::string(row.name) + (row.kind == CounterKind::counter ? "_total" : "");
}

}  // namespace smbdirect::shm
