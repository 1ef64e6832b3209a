// SPDX-License-Identifier: MIT
// One RDMAP stream without its socket: the queues, both paths, and the rules that tie them together. Owned
// by a Connection. It is driven by bytes (vectors to read into, vectors to write from), so the whole
// protocol runs in tests and fuzzers without a socket or a loop.
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <optional>
#include <span>
#include <sys/uio.h>

#include "workers/fabric/fabric.h"
#include "workers/fabric/iwarp/receive_path.h"
#include "workers/fabric/iwarp/send_path.h"
#include "workers/fabric/iwarp/setup.h"
#include "workers/fabric/iwarp/stream_state.h"

namespace smbdirect::workers::fabric::iwarp {

class Stream {
 public:
  explicit Stream(const StreamLimits& limits, EntropySource entropy = system_entropy);
  Stream(const Stream&) = delete;  // its halves refer to its state
  Stream& operator=(const Stream&) = delete;

  /// may_send: the connecting side, which speaks first. segment_size: TCP's effective one.
  void establish(const Agreed& agreed, uint32_t segment_size, bool may_send);
  /// TCP's segments have another size now. Counts from the next message on: a peer may rely on all
  /// segments of one being alike.
  void set_segment_size(uint32_t segment_size);

  std::expected<void, PostError> post_receive(uint64_t id, Sge into);
  std::expected<void, PostError> post_send(uint64_t id, std::span<const Sge> pieces,
                                           const uint32_t* invalidate);
  std::expected<void, PostError> post_write(uint64_t id, std::span<const Sge> pieces, RemoteMemory to);
  std::expected<void, PostError> post_read(uint64_t id, Sge into, RemoteMemory from);
  [[nodiscard]] uint32_t send_room() const { return limits_.max_send_work - outstanding_; }
  std::expected<RemoteMemory, PostError> expose(std::span<std::byte> memory, Access access);
  /// May raise a fault, when the peer is using the memory right now.
  void unexpose(uint32_t token);

  /// Where the next bytes of the peer go; not to be asked after a fault.
  std::span<iovec> receive_vectors() { return receive_.vectors(); }
  void received(size_t n) { receive_.received(n); }
  [[nodiscard]] bool at_boundary() const { return receive_.at_boundary(); }

  /// What to write next; empty when nothing may be sent now.
  std::span<const iovec> send_vectors() { return send_.vectors(); }
  void sent(size_t n) { send_.sent(n); }
  [[nodiscard]] bool more_to_send() const { return send_.more(); }

  [[nodiscard]] const std::optional<Fault>& fault() const { return state_.fault; }
  /// For faults outside the segments: a set-up that failed.
  void terminate(const Fault& fault);
  [[nodiscard]] bool terminate_sent() const { return send_.terminate_sent(); }
  /// All that was posted and may be sent is sent, and every READ has come back.
  [[nodiscard]] bool drained() const;

  /// Completions not handed out yet.
  [[nodiscard]] std::span<const Completion> completions() const { return state_.done; }
  /// They are handed out to the handler, which may post and send anew: their work no longer counts as
  /// outstanding. The span is good until the next call.
  [[nodiscard]] std::span<const Completion> hand_out_completed();
  /// Gives back memory that was not needed since the last call. Not while completions are handed out, nor
  /// between asking for vectors and saying what became of them.
  void trim();

  [[nodiscard]] const Traffic& traffic() const { return state_.traffic; }
  /// But for what the socket holds: here, sending means that something was not given to it yet.
  [[nodiscard]] Progress progress() const;

 private:
  std::expected<void, PostError> post_work(SendWork work, std::span<const Sge> pieces);

  StreamLimits limits_;
  StreamState state_;
  SendPath send_;
  ReceivePath receive_;
  uint32_t outstanding_ = 0;  // sends, writes, reads posted and not handed back
  uint32_t receives_outstanding_ = 0;
};

}  // namespace smbdirect::workers::fabric::iwarp
