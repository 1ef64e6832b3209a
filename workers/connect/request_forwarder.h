// SPDX-License-Identifier: MIT
// From the SMB client to the server: length-prefixed PDUs read from TCP, sent on as SMB Direct messages
// straight from the memory they were read into. Ordinary PDUs are cut through; READ and WRITE that become
// RDMA-channel I/O wait until they are complete and until there is memory for them, and everything behind
// them waits too (MS-SMB2 keeps no order, but CANCEL must not overtake what it cancels). Some requests are
// answered only after later ones (a READ of a pipe, by a CANCEL): when no memory has been released for a
// while, requests do not wait for it any longer and travel inside messages. Owned by one ClientSession, on
// its thread.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "protocol/smb2/client_translator.h"
#include "shm/base/result.h"
#include "workers/connect/exposed_memory.h"
#include "workers/connect/pools.h"
#include "workers/stream/outbox.h"
#include "workers/stream/reader.h"
#include "workers/transport/transport.h"

namespace smbdirect::workers::connect {

/// The beginning of a request. No member of the class: there clang takes it for not default constructible
/// until the class is complete, and std::optional asks before.
struct RequestHead {
  uint32_t total{};
  uint32_t prefix_size{};
  protocol::smb2::ClientTranslator::Request request;
  std::array<std::byte, protocol::smb2::kPrefixBytes> storage{};
  [[nodiscard]] std::span<const std::byte> prefix() const { return std::span(storage).first(prefix_size); }
};

class RequestForwarder {
 public:
  /// Pieces of memory one request may name: its descriptors fit a header slab.
  static constexpr uint32_t kMaxDescriptors = 240;

  /// largest_response: what the server may send us in one message. out: to the client.
  RequestForwarder(Pools& pools, const MemoryLimits& limits, uint32_t largest_response, Transport& transport,
                   protocol::smb2::ClientTranslator& translator, ExposedMemory& memory, Outbox& out);

  /// Largest READ and WRITE, in bytes, that memory allows to become RDMA-channel I/O.
  [[nodiscard]] uint32_t most_rdma_channel_bytes() const;

  /// What was read before: the client's first message. False: there is no memory.
  [[nodiscard]] bool begin_with(std::span<const std::byte> bytes) { return reader_.put(bytes); }

  enum class State : uint8_t {
    hungry,  // run() again when the socket is readable
    waits,   // for memory: run() again when something was sent or delivered
    ended,   // the client closed its side, with no request sent in part
  };
  /// Reads a bounded amount and queues it on the transport (which the caller pumps). An error is a
  /// sentence about the client; the request it was about has not been completed.
  [[nodiscard]] shm::Result<State> run(int fd);

  /// It waits for memory that requests under way hold until they are answered. They may not be:
  /// stop_waiting() when none has come back for a while.
  [[nodiscard]] bool waits_for_answers() const { return short_ && !waits_no_longer_; }
  void stop_waiting() { waits_no_longer_ = true; }

  /// No request has been sent in part.
  [[nodiscard]] bool between_requests() const { return unsent_ == 0; }
  /// Lets go of what an idle connection need not hold.
  void trim() { reader_.trim(); }

 private:
  using Request = protocol::smb2::ClientTranslator::Request;
  enum class Step : uint8_t { needs_bytes, waits, again };

  shm::Result<Step> forward();
  shm::Result<bool> next_head();
  shm::Result<bool> next_message();
  shm::Result<bool> multi_protocol(uint32_t total);
  bool stream();
  shm::Result<Step> begin_plain();
  shm::Result<Step> rdma_channel_read();
  shm::Result<Step> rdma_channel_write();
  shm::Result<Step> send_rdma_channel_request(uint64_t cookie);
  shm::Result<Step> without_memory();
  shm::Result<Step> refuse();
  shm::Result<> send_small(SlabRef pdu, size_t size);
  [[nodiscard]] bool fits_rdma_channel() const;
  [[nodiscard]] size_t wanted() const;

  Pools& pools_;
  Transport& transport_;
  protocol::smb2::ClientTranslator& translator_;
  ExposedMemory& memory_;
  Budget requests_;
  Budget reads_;
  StreamReader reader_;
  Outbox& out_;
  uint32_t largest_response_;
  bool introduced_ = false;          // by a NetBIOS session request
  bool begun_ = false;               // the first message was there
  uint32_t message_bytes_ = 0;       // of the message whose beginning is next in the reader; 0: not looked at
  std::optional<RequestHead> head_;  // classified, nothing of it taken yet
  uint64_t unsent_ = 0;              // bytes of the message begun last, still to come from the client
  uint64_t dropping_ = 0;            // bytes of a message that was refused, still to come
  bool short_ = false;               // head_ has found no memory
  bool waits_no_longer_ = false;     // until memory comes back
  uint64_t closed_seen_ = 0;
};

}  // namespace smbdirect::workers::connect
