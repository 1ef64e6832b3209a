// SPDX-License-Identifier: MIT
// The seam between SMB Direct and what carries it: one reliable RDMA connection ("endpoint") with verbs
// semantics and nothing more. Two implementations: iwarp/ (iWARP in userspace over a TCP socket) and
// verbs/ (libibverbs). Owned by one worker (or smbdirect-connect), used on its loop's thread only; it never
// crosses fork. When the process dies the kernel closes the connection.
//
// Rules every implementation keeps:
//  - post_* queue work and never call the handler; a completion is delivered later, from the loop.
//    ring() starts what was posted since the last ring (one doorbell, one vectored write).
//  - Memory named by a work request must stay valid until its completion is delivered, or until the
//    handler's on_closed() has been called: after on_closed() the endpoint touches no caller memory.
//  - Sends, writes and reads complete in posting order within their own kind; an RDMA WRITE posted
//    before a SEND is placed at the peer before that SEND is delivered there.
//  - A receive completes with the number of bytes received. No receive posted when a SEND arrives ends
//    the connection. Receives complete in posting order.
//  - on_closed() comes exactly once, as the last event, whatever the cause; work that had not completed
//    is simply gone (no flush completions are delivered). Destroying an endpoint before on_closed() is
//    allowed, aborts the connection at once, and delivers nothing.
//  - A WRITE's memory may be a mapped file where Attributes::sends_files says so, with key 0. Nothing in this
//    process reads it, which would be the end of the process if the file has become shorter: the kernel does,
//    and copies it, when the bytes are given to it. What is not there any more by then ends the connection
//    (CloseCause::source_gone): a message that has begun cannot be anything else.
//  - The handler may call post_*, ring() and disconnect() from any callback, but must not destroy the
//    endpoint from inside one (defer it to the loop).
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <span>
#include <string>
#include <string_view>

namespace smbdirect::workers::fabric {

/// A piece of local memory. key is the number of the arena's block it lies in (workers/memory/arena.h); 0,
/// which only iwarp takes, is memory in no block.
struct Sge {
  std::byte* addr{};
  uint32_t length{};
  uint32_t key{};
};

/// A piece of the peer's memory, as an SMB Direct Buffer Descriptor V1 names it (MS-SMBD 2.2.3.1).
struct RemoteMemory {
  uint64_t offset{};  // remote virtual address / tagged offset
  uint32_t token{};   // rkey / STag
};

enum class Op : uint8_t { send, receive, rdma_write, rdma_read };

/// Work that is done. id is the caller's own, given when posting.
struct Completion {
  uint64_t id{};
  Op op{};
  uint32_t bytes{};              // receive: bytes received
  bool invalidated{};            // receive: the SEND carried an invalidate...
  uint32_t invalidated_token{};  // ...of this token of ours (already revoked)
};

enum class CloseCause : uint8_t {
  local,           // disconnect() was called
  peer_closed,     // orderly close by the peer
  peer_reset,      // reset, or the peer vanished
  peer_terminate,  // iWARP Terminate received / remote error completion
  protocol_error,  // the peer broke a rule of the fabric's protocol (detail says which)
  setup_failed,    // never got established: refused, timed out, incompatible parameters
  source_gone,     // a file that was being sent became shorter
};

/// Why a connection ended. detail is for the log: one line, no peer-controlled bytes.
struct Close {
  CloseCause cause{};
  std::string detail;
};

enum class PostError : uint8_t {
  queue_full,
  closed,
  too_many_sges,   // or more bytes than one work request may move
  not_registered,  // memory in no block of the arena, or the device can register no more
};

/// What was agreed when the connection was set up; valid from on_established().
struct Attributes {
  uint32_t max_send_work{};       // sends + writes + reads that may be outstanding at once
  uint32_t max_receive_work{};    // receives that may be posted at once
  uint32_t max_send_sge{};        // pieces per send or write
  uint32_t max_outbound_reads{};  // RDMA READs the peer lets us have outstanding (ORD); at least 1.
                                  // More may be posted: the endpoint queues them.
  bool crc{};                     // iwarp: CRC32C in use
  // A SEND with invalidate of the peer's can revoke what we expose. Where it cannot, one would break the
  // connection: the peer must not be asked for it (SMB Direct's channel 1 in place of 2).
  bool can_be_invalidated{};
  bool sends_files{};  // from mapped files, see above: iwarp, where no CRC is counted
};

/// Bytes and units moved, for statistics; monotonic.
struct Traffic {
  uint64_t fpdus_sent{}, fpdus_received{};  // iwarp only
  uint64_t sends{}, receives{};
  uint64_t writes{}, write_bytes{};            // RDMA WRITEs we posted
  uint64_t reads{}, read_bytes{};              // RDMA READs we posted
  uint64_t peer_writes{}, peer_write_bytes{};  // the peer's WRITEs into memory we exposed
  uint64_t peer_reads{}, peer_read_bytes{};    // the peer's READs of it
  uint64_t copied_bytes{};                     // payload copied in userspace
};

/// What waits for the peer, and how far it has come: for deadlines, asked at a timer's tick and not per
/// message (iwarp asks the kernel). What waits and whose counter stands is dead; what moves is slow, and
/// alive. The counters only grow; what they count differs between fabrics, so compare one with its own past
/// only. The empty messages of the peer's move none of them.
struct Progress {
  bool reading{};           // RDMA READs were posted and have not come back
  bool receiving{};         // a message of the peer's has begun and is not complete (iwarp only)
  bool sending{};           // SENDs, WRITEs, answers: something that the peer's side has not acknowledged
  uint64_t read{};          // answers to our READs: iwarp bytes, verbs parts of READs
  uint64_t received{};      // payload of the peer's of any kind: iwarp bytes, verbs completions
  uint64_t acknowledged{};  // what we sent: iwarp bytes of TCP, verbs completions
};

class Handler {
 public:
  virtual void on_established() = 0;
  virtual void on_completions(std::span<const Completion> done) = 0;
  virtual void on_closed(const Close& why) = 0;

 protected:
  ~Handler() = default;
};

enum class Access : uint8_t { remote_read, remote_write };

class Endpoint {
 public:
  Endpoint() = default;
  Endpoint(const Endpoint&) = delete;
  Endpoint& operator=(const Endpoint&) = delete;
  virtual ~Endpoint() = default;

  /// Accepting side: answer the peer's connection request. Receives for the first messages must have
  /// been posted. Connecting side: begin to connect. on_established() or on_closed() follows.
  virtual void start() = 0;

  virtual std::expected<void, PostError> post_receive(uint64_t id, Sge into) = 0;
  /// invalidate: a token of the peer's to invalidate with this SEND, or none.
  virtual std::expected<void, PostError> post_send(uint64_t id, std::span<const Sge> pieces,
                                                   const uint32_t* invalidate = nullptr) = 0;
  virtual std::expected<void, PostError> post_write(uint64_t id, std::span<const Sge> pieces,
                                                    RemoteMemory to) = 0;
  virtual std::expected<void, PostError> post_read(uint64_t id, Sge into, RemoteMemory from) = 0;
  virtual void ring() = 0;
  /// Also within a callback, where ring() may wait for its end.
  virtual void ring_now() { ring(); }

  /// Sends + writes + reads that may still be posted now.
  [[nodiscard]] virtual uint32_t send_room() const = 0;

  /// Let the peer of this connection (and nobody else) read or write this memory until unexpose().
  /// Used by the connecting side only; a server exposes nothing.
  virtual std::expected<RemoteMemory, PostError> expose(std::span<std::byte> memory, Access access) = 0;
  /// Revoke. After this returns, the peer's accesses to the token end the connection. Harmless for a
  /// token that a SEND with invalidate has revoked already.
  virtual void unexpose(uint32_t token) = 0;

  /// Orderly: what was posted is sent first, then the connection is closed; bounded by a few seconds.
  virtual void disconnect() = 0;
  /// At once, dropping what is queued (RST on iwarp).
  virtual void abort() = 0;

  /// To be called now and then, from the loop and not from a callback: gives back memory that a burst needed
  /// and that nothing has needed since the last call. Steady state allocates nothing all the same.
  virtual void trim() {}

  [[nodiscard]] virtual const Attributes& attributes() const = 0;
  [[nodiscard]] virtual const Traffic& traffic() const = 0;
  /// Nothing waits once the connection has ended.
  [[nodiscard]] virtual Progress progress() const = 0;
  /// "iwarp 127.0.0.1:5445 <- 127.0.0.2:40000", for the log.
  [[nodiscard]] virtual std::string_view description() const = 0;
};

}  // namespace smbdirect::workers::fabric
