// SPDX-License-Identifier: MIT
// A channel: one SMB Direct connection of a client, at the end of the process that serves the client. Owned
// by the C handle around it, for one thread at a time. The worker at its other end is not trusted; when it
// dies, or the client's connection ends, next() reports it after everything that arrived before.
#pragma once

#include <expected>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "protocol/proxy/frames.h"
#include "protocol/proxy/peer/area.h"
#include "protocol/proxy/peer/connection.h"
#include "protocol/proxy/peer/inbox.h"
#include "protocol/proxy/peer/operations.h"
#include "protocol/proxy/peer/outbox.h"
#include "protocol/proxy/peer/owned_fd.h"
#include "protocol/proxy/smbdirect_peer.h"

namespace smbdirect::protocol::proxy::peer {

/// The functions are those of smbdirect_peer.h, and so are the (negated) errnos.
class NativeChannel {
 public:
  /// Nothing, until a channel is moved into it.
  NativeChannel() = default;
  /// A channel that this process was started for.
  [[nodiscard]] static std::expected<NativeChannel, int> open(std::string_view path, const Cookie& cookie);
  /// A channel that came with a CHANNEL frame. -ECONNRESET: it has ended by now.
  [[nodiscard]] static std::expected<NativeChannel, int> accept(OwnedFd socket);
  /// A channel of another process's. The descriptors stay the caller's unless this succeeds.
  [[nodiscard]] static std::expected<NativeChannel, int> take_over(std::span<const int, 2> descriptors,
                                                                   std::span<const std::byte> state);

  [[nodiscard]] const smbdirect_facts& facts() const { return public_facts_; }
  [[nodiscard]] int fd() const { return socket_.get(); }
  [[nodiscard]] short events() const;

  [[nodiscard]] int attach();
  /// 1: `event` is filled in; for a CHANNEL, `other` is that channel.
  [[nodiscard]] int next(smbdirect_event& event, std::optional<NativeChannel>& other);
  [[nodiscard]] int send_pdu(std::span<const iovec> pieces, std::span<const uint32_t> invalidate);
  /// `type`: rdma_read or rdma_write.
  [[nodiscard]] int rdma(FrameType type, uint64_t id, size_t area_offset, size_t length,
                         std::span<const smbdirect_descriptor> descriptors);
  [[nodiscard]] int64_t flush() { return outbox_.flush(socket_.get()); }
  /// After 0 the channel is to be dropped: it has no descriptors any more.
  [[nodiscard]] int hand_over(std::span<int, 2> descriptors, void* state, size_t& size);

 private:
  explicit NativeChannel(OwnedFd socket) : socket_(std::move(socket)) {}
  [[nodiscard]] int await_facts(const Deadline& deadline);
  [[nodiscard]] int learn(const Frame& frame);
  void know(Facts facts, Area area);
  /// The frame's length is the body's unless there is more of it.
  [[nodiscard]] int send(FrameHeader header, std::span<const std::byte> body, std::span<const iovec> more);

  OwnedFd socket_;
  OwnedFd area_fd_;  // kept to be handed over
  Area area_;
  Facts facts_;
  smbdirect_facts public_facts_{};  // points into facts_.negotiate, whose bytes stay where they are
  Inbox inbox_{Sender::worker};
  Outbox outbox_;
  Operations operations_;
  bool attached_ = false;
  int failure_ = 0;      // what next() returns for ever
  Operation operation_;  // these two are here to keep their memory
  std::vector<iovec> gather_;
};

}  // namespace smbdirect::protocol::proxy::peer
