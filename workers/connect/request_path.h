// SPDX-License-Identifier: MIT
// From the SMB client to the server: length-prefixed PDUs read from TCP, sent on as SMB Direct messages
// straight from the memory they were read into. Ordinary PDUs are cut through; READ and WRITE that become
// channel I/O wait until they are complete and until there is memory for them, and everything behind them
// waits too (MS-SMB2 keeps no order, but CANCEL must not overtake what it cancels). Owned by one
// ConnectSession, on its thread.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "protocol/smb2/client_translator.h"
#include "shm/result.h"
#include "workers/connect/channel_memory.h"
#include "workers/connect/pools.h"
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

class RequestPath {
 public:
  /// Pieces of memory one request may name: its descriptors fit a header slab.
  static constexpr uint32_t kMaxDescriptors = 240;

  RequestPath(Pools& pools, const MemoryLimits& limits, Transport& transport,
              protocol::smb2::ClientTranslator& translator, ChannelMemory& memory);

  /// Largest READ and WRITE, in bytes, that memory allows to become channel I/O.
  [[nodiscard]] uint32_t most_channel_bytes() const;

  enum class State : uint8_t {
    hungry,  // run() again when the socket is readable
    waits,   // for memory: run() again when something was sent or delivered
    ended,   // the client closed its side, with no request sent in part
  };
  /// Reads a bounded amount and queues it on the transport (which the caller pumps). An error is a
  /// sentence about the client; the request it was about has not been completed.
  [[nodiscard]] shm::Result<State> run(int fd);

  /// No request has been sent in part.
  [[nodiscard]] bool between_requests() const { return unsent_ == 0; }
  /// Lets go of what an idle connection need not hold.
  void trim() { reader_.trim(); }

 private:
  using Request = protocol::smb2::ClientTranslator::Request;
  enum class Step : uint8_t { needs_bytes, waits, again };

  shm::Result<Step> forward();
  shm::Result<bool> next_head();
  bool stream();
  shm::Result<Step> begin_plain();
  shm::Result<Step> channel_read();
  shm::Result<Step> channel_write();
  shm::Result<Step> send_channel(uint64_t cookie);
  [[nodiscard]] bool fits_channel() const;
  [[nodiscard]] size_t wanted() const;

  Pools& pools_;
  Transport& transport_;
  protocol::smb2::ClientTranslator& translator_;
  ChannelMemory& memory_;
  Budget requests_;
  Budget reads_;
  StreamReader reader_;
  std::optional<RequestHead> head_;  // classified, nothing of it taken yet
  uint64_t unsent_ = 0;              // bytes of the message begun last, still to come from the client
};

}  // namespace smbdirect::workers::connect
