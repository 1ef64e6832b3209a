// SPDX-License-Identifier: MIT
// What a connection, a worker or smbdirect-connect counts. One table: names, help, the log line, the JSON
// and the statistics all come from it. Plain integers, one thread.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace smbdirect::workers {

// clang-format off
#define SMBDIRECT_COUNTERS(X)                                                                   \
  X(connections, "SMB Direct connections established")                                         \
  X(smb_requests, "SMB2 requests (PDUs) from client to server")                                \
  X(smb_responses, "SMB2 responses (PDUs) from server to client")                              \
  X(fragments_sent, "data messages sent that carry payload")                                   \
  X(fragments_received, "data messages received that carry payload")                           \
  X(empties_sent, "messages sent without payload (credits, keepalive)")                        \
  X(empties_received, "messages received without payload")                                     \
  X(credits_granted, "receive credits granted to the peer")                                    \
  X(credits_received, "send credits granted by the peer")                                      \
  X(bytes_inline_sent, "payload bytes sent inside messages")                                   \
  X(bytes_inline_received, "payload bytes received inside messages")                           \
  X(rdma_reads, "RDMA READs (client memory to server)")                                        \
  X(rdma_read_bytes, "payload bytes moved by RDMA READ")                                       \
  X(rdma_writes, "RDMA WRITEs (server to client memory)")                                      \
  X(rdma_write_bytes, "payload bytes moved by RDMA WRITE")                                     \
  X(invalidates, "tokens invalidated by SEND with Invalidate")                                 \
  X(fpdus_sent, "iWARP FPDUs sent")                                                            \
  X(fpdus_received, "iWARP FPDUs received")                                                    \
  X(copied_bytes, "payload bytes copied in userspace")
// clang-format on

struct Counters {
#define SMBDIRECT_FIELD(name, help) uint64_t name = 0;
  SMBDIRECT_COUNTERS(SMBDIRECT_FIELD)
#undef SMBDIRECT_FIELD

  struct Description {
    std::string_view name;
    std::string_view help;
    uint64_t Counters::* field;
  };
  /// The table, in the order above.
  [[nodiscard]] static const auto& table() {
#define SMBDIRECT_ROW(name, help) Description{#name, help, &Counters::name},
    static constexpr auto kTable = std::to_array<Description>({SMBDIRECT_COUNTERS(SMBDIRECT_ROW)});
#undef SMBDIRECT_ROW
    return kTable;
  }

  void add(const Counters& other) {
    for (const Description& row : table()) this->*row.field += other.*row.field;
  }
  /// "name=1 name=2 ...": every counter, for a log line.
  [[nodiscard]] std::string text() const {
    std::string out;
    for (const Description& row : table()) {
      if (!out.empty()) out += ' ';
      out.append(row.name).append("=").append(std::to_string(this->*row.field));
    }
    return out;
  }
};

}  // namespace smbdirect::workers
