// SPDX-License-Identifier: MIT
// The queues of one RDMAP stream, which the send and the receive path share. Plain data: no socket, no loop,
// no clock. Owned by Stream. Memory is allocated as work is posted, so that a silent peer costs nothing; it
// is kept while it is used, and trim() frees the rest.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <sys/uio.h>
#include <utility>
#include <vector>

#include "workers/fabric/fabric.h"
#include "workers/fabric/iwarp/ddp.h"
#include "workers/fabric/iwarp/stag_table.h"
#include "workers/fabric/iwarp/terminate.h"
#include "workers/memory/ring.h"

namespace smbdirect::workers::fabric::iwarp {

struct PostedReceive {
  uint64_t id;
  std::byte* memory;
  uint32_t length;
};

/// A SEND or an RDMA WRITE.
struct SendWork {
  uint64_t id;
  uint64_t first_piece;  // number of its first piece, counted from the stream's first
  Op op;
  bool invalidate;
  uint16_t pieces;
  uint32_t token;   // write: the peer's STag; send: the STag to invalidate
  uint64_t offset;  // write: the peer's tagged offset
  uint32_t length;
};

/// An RDMA READ that waits for its turn (ORD).
struct WaitingRead {
  uint64_t id;
  std::byte* memory;
  uint32_t length;
  RemoteMemory from;
};

/// An RDMA READ whose request is on its way.
struct OutstandingRead {
  uint64_t id;
  std::byte* memory;
  uint32_t length;
  uint32_t received;
  uint32_t stag;    // of the sink
  uint64_t offset;  // of the sink's first byte
};

/// A Read Request of the peer's that has passed all checks.
struct InboundRead {
  ReadRequest request;
  uint32_t msn;
};

/// Why a stream must end.
struct Fault {
  TerminateCode code;      // what we send, or what the peer sent
  bool from_peer = false;  // a Terminate was received
  bool silent = false;     // no FPDU can be sent any more: reset the connection
  const char* why = "";
  std::array<std::byte, kMaxSegmentHeader> header{};  // the offending segment's, as far as it is to be shown
  size_t header_size = 0;
  uint16_t segment_length = 0;
};

inline constexpr uint16_t kMaxPieces = 16;

struct StreamLimits {
  uint32_t max_send_work{};
  uint32_t max_receive_work{};
  uint16_t max_inbound_reads{};
  uint16_t max_outbound_reads{};
};

struct StreamState {
  explicit StreamState(EntropySource entropy) : stags(entropy) {}

  // Agreed at set-up.
  bool crc = true;
  bool rtr_empty = false;
  uint16_t mulpdu = 0;  // largest ULPDU we send; looked at when a message begins
  uint16_t ird = 1;
  uint16_t ord = 1;
  /// The accepting side stays silent until the first FPDU has arrived (RFC 5044 7.1.2).
  bool may_send = false;

  Ring<PostedReceive> receives;
  Ring<SendWork> work;
  Ring<iovec> pieces;        // of all work, in order
  uint64_t pieces_done = 0;  // the number of the first of them
  Ring<WaitingRead> reads_waiting;
  Ring<OutstandingRead> reads_outstanding;
  Ring<InboundRead> inbound_reads;
  StagTable stags;

  [[nodiscard]] const iovec* pieces_of(const SendWork& item, uint16_t index) const {
    return &pieces[item.first_piece - pieces_done + index];
  }
  void pop_work() {
    const uint16_t count = work.front().pieces;
    for (uint16_t i = 0; i < count; ++i) pieces.drop();
    pieces_done += count;
    work.drop();
  }

  /// Each piece of outstanding work completes once and is not posted anew before that is delivered, so there
  /// are never more than may be outstanding.
  std::vector<Completion> done;
  std::vector<Completion> handed_out;  // what was done, until the handler has seen it
  size_t done_peak = 0;                // since the last trim()
  void complete(const Completion& completion) { done.push_back(completion); }

  /// Not while completions are being handed out.
  void trim() {
    receives.trim();
    work.trim();
    pieces.trim();
    reads_waiting.trim();
    reads_outstanding.trim();
    inbound_reads.trim();
    stags.trim();
    if (done.empty() && std::exchange(done_peak, 0) * 4 <= done.capacity()) {
      done = decltype(done)();
      handed_out = decltype(handed_out)();
    }
  }

  std::optional<Fault> fault;
  Traffic traffic;
  uint64_t payload_received = 0;   // bytes of the peer's, those of FPDUs under way included...
  uint64_t response_received = 0;  // ...of which answers to our READs, and one for each READ that is back
};

}  // namespace smbdirect::workers::fabric::iwarp
