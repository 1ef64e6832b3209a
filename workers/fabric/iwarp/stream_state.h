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

namespace smbdirect::workers::fabric::iwarp {

/// A first-in first-out queue of fixed capacity. Empty again, it starts over at its first slot, so that a
/// quiet connection touches few pages.
template <class T>
class Ring {
 public:
  explicit Ring(uint32_t capacity)
      : capacity_(capacity), slots_(std::make_unique_for_overwrite<T[]>(capacity)) {}

  [[nodiscard]] uint32_t size() const { return count_; }
  [[nodiscard]] bool empty() const { return count_ == 0; }
  [[nodiscard]] bool full() const { return count_ == capacity_; }
  [[nodiscard]] T& operator[](uint32_t i) { return slots_[wrap(head_ + i)]; }
  [[nodiscard]] const T& operator[](uint32_t i) const { return slots_[wrap(head_ + i)]; }
  [[nodiscard]] T& front() { return slots_[head_]; }
  /// Not when full.
  T& push(const T& value) { return slots_[wrap(head_ + count_++)] = value; }
  void pop() {
    --count_;
    head_ = count_ == 0 ? 0 : wrap(head_ + 1);
  }
  /// The slot push() will fill next, for arrays that run beside this one.
  [[nodiscard]] uint32_t next_slot() const { return wrap(head_ + count_); }
  [[nodiscard]] uint32_t slot_of(uint32_t i) const { return wrap(head_ + i); }

 private:
  [[nodiscard]] uint32_t wrap(uint32_t i) const { return i >= capacity_ ? i - capacity_ : i; }

  uint32_t capacity_;
  uint32_t head_ = 0;
  uint32_t count_ = 0;
  std::unique_ptr<T[]> slots_;
};

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
};

}  // namespace smbdirect::workers::fabric::iwarp
