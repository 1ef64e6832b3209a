// SPDX-License-Identifier: MIT
// The queues of one RDMAP stream, which the send and the receive path share. Plain data: no socket, no
// loop, no clock. Owned by Stream. Everything is allocated when the stream is made.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <sys/uio.h>

#include "workers/fabric/fabric.h"
#include "workers/fabric/iwarp/ddp.h"
#include "workers/fabric/iwarp/stag_table.h"
#include "workers/fabric/iwarp/terminate.h"
#include "workers/memory/fixed_ring.h"

namespace smbdirect::workers::fabric::iwarp {

template <class T>
using Ring = FixedRing<T>;

struct PostedReceive {
  uint64_t id;
  std::byte* memory;
  uint32_t length;
};

/// A SEND or an RDMA WRITE. Its pieces lie in StreamState::pieces at kMaxPieces times its ring slot.
struct SendWork {
  uint64_t id;
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
  StreamState(const StreamLimits& limits, EntropySource entropy)
      : receives(limits.max_receive_work),
        work(limits.max_send_work),
        pieces(std::make_unique_for_overwrite<iovec[]>(size_t{limits.max_send_work} * kMaxPieces)),
        reads_waiting(limits.max_send_work),
        reads_outstanding(limits.max_outbound_reads),
        inbound_reads(limits.max_inbound_reads),
        stags(limits.max_outbound_reads, entropy),
        done_room(limits.max_send_work + limits.max_receive_work),
        done(std::make_unique_for_overwrite<Completion[]>(done_room)) {}

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
  std::unique_ptr<iovec[]> pieces;
  Ring<WaitingRead> reads_waiting;
  Ring<OutstandingRead> reads_outstanding;
  Ring<InboundRead> inbound_reads;
  StagTable stags;

  /// Each piece of outstanding work completes once and is not posted anew before that is delivered, so
  /// this cannot overflow.
  uint32_t done_room;
  uint32_t done_count = 0;
  std::unique_ptr<Completion[]> done;
  void complete(const Completion& completion) { done[done_count++] = completion; }

  std::optional<Fault> fault;
  Traffic traffic;
  uint64_t payload_received = 0;   // bytes of the peer's, those of FPDUs under way included...
  uint64_t response_received = 0;  // ...of which answers to our READs, and one for each READ that is back
};

}  // namespace smbdirect::workers::fabric::iwarp
