// SPDX-License-Identifier: MIT
// The sending half of a stream: cuts messages into FPDUs and names them as vectors, many FPDUs to one
// sendmsg(). Payload is never copied; length words, headers, pads and CRCs are laid beside it. Pure: it is
// asked for vectors and told how many bytes the socket took.
//
// Order: messages are never interleaved. READ requests go first (they are small and start the peer's
// work), then our own work and answers to the peer's READs take turns.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <sys/uio.h>

#include "workers/fabric/iwarp/stream_state.h"

namespace smbdirect::workers::fabric::iwarp {

class SendPath {
 public:
  explicit SendPath(StreamState& state);

  /// What to write next; empty when there is nothing that may be sent. The same until sent() is called.
  std::span<const iovec> vectors();
  /// n bytes of it were taken by the socket.
  void sent(size_t n);
  /// More will follow what vectors() named last.
  [[nodiscard]] bool more() const;
  /// Nothing is left to send of what was posted, READ answers included.
  [[nodiscard]] bool idle() const;
  /// Something is left that the peer has to take: not READs that wait for others to come back.
  [[nodiscard]] bool owes() const;
  /// Bytes of the stream that the socket has taken.
  [[nodiscard]] uint64_t written() const { return written_; }

  /// After the FPDUs already named, send this and nothing else.
  void terminate(const TerminatePayload& payload) { terminate_ = payload; }
  [[nodiscard]] bool terminate_sent() const { return terminate_sent_; }
  /// Gives back memory that was not needed since the last call.
  void trim();
  /// Vectors named but not yet written may point into this tag's memory.
  [[nodiscard]] bool holds(uint32_t stag) const;

 private:
  enum class Source : uint8_t { none, work, response };
  enum class Mark : uint8_t { work, response, terminate };
  struct MarkAt {
    uint64_t end;  // bytes of the stream after which the message is out
    Mark what;
  };

  // A batch has room for what waits.
  static constexpr size_t kLeastFpdus = 8;
  static constexpr size_t kMaxFpdus = 128;
  static constexpr size_t kVectorsEach = 4;
  static constexpr size_t kSlotSize = 64;
  static constexpr size_t kSlotHead = 8;  // room for the previous FPDU's pad and CRC
  // Large enough to make a system call cheap. With a CRC the bytes are read twice, and the second time
  // should still hit the cache.
  static constexpr size_t kBatchBytes = 1U << 20;
  static constexpr size_t kBatchBytesCrc = 1U << 18;

  void build();
  void make_batch(size_t fpdus);
  [[nodiscard]] size_t waiting_fpdus() const;
  void choose();
  [[nodiscard]] bool work_waits() const { return work_cut_ < state_.work.size(); }
  [[nodiscard]] bool response_waits() const { return responses_cut_ < state_.inbound_reads.size(); }
  [[nodiscard]] bool read_may_go() const;
  void add_read_request();
  void add_work_segment();
  void add_response_segment();
  void add_terminate();
  /// Starts an FPDU: the header's place, behind the previous FPDU's trailer.
  std::byte* open(size_t header_size, uint32_t payload);
  void payload(const std::byte* at, size_t size);
  void close();
  [[nodiscard]] bool room() const;

  StreamState& state_;

  // The batch: what vectors() named. No memory before the first, or when it is long ago.
  size_t most_fpdus_ = 0;
  size_t peak_fpdus_ = 0;  // since the last trim()
  bool cramped_ = false;   // the last batch ended for want of room in it
  std::unique_ptr<std::array<std::byte, kSlotSize>[]> slots_;
  std::unique_ptr<iovec[]> vectors_;
  size_t slots_used_ = 0;
  size_t vectors_used_ = 0;
  size_t vectors_gone_ = 0;
  size_t batch_bytes_ = 0;
  size_t trailer_ = 0;  // bytes of pad and CRC waiting in the current slot

  // The FPDU being built.
  size_t ulpdu_ = 0;
  size_t head_size_ = 0;     // length word and header
  size_t payload_from_ = 0;  // its first payload vector

  // The message being cut.
  Source source_ = Source::none;
  bool response_turn_ = false;
  uint16_t mulpdu_ = 0;  // the largest ULPDU for all of it
  uint32_t cut_ = 0;     // its bytes already in FPDUs
  uint16_t piece_ = 0;   // work: current piece, and the bytes of it already used
  size_t piece_used_ = 0;
  uint32_t work_cut_ = 0;       // work wholly cut, not yet written
  uint32_t responses_cut_ = 0;  // the same for answers to the peer's READs

  uint32_t send_msn_ = 1;  // RFC 5040 5.3: queues count from 1
  uint32_t read_msn_ = 1;

  Ring<MarkAt> marks_;
  uint64_t built_ = 0;  // bytes of FPDUs built and written since the stream began
  uint64_t written_ = 0;

  std::optional<TerminatePayload> terminate_;
  bool terminate_built_ = false;
  bool terminate_sent_ = false;
};

}  // namespace smbdirect::workers::fabric::iwarp
