// SPDX-License-Identifier: MIT
// Client -> smbd: SMB Direct fragments become the bytes of smbd's stream. Single plain requests are cut
// through from the receive buffers; NEGOTIATE, compounds and RDMA-channel I/O are gathered, translated and
// queued (RequestQueue). Owned by one session, one thread.
//
// A request whose reply has no room yet stalls everything behind it: fragments wait in their receive buffers
// and the client gets no new credits. Reservations alone do not stall it for long: if nothing is held and
// nothing was answered for a while, they are dropped.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>

#include "workers/session/context.h"
#include "workers/smbd/direct_files.h"
#include "workers/smbd/previous_sessions.h"
#include "workers/smbd/request_queue.h"
#include "workers/stream/outbox.h"

namespace smbdirect::workers {

class RequestPath {
 public:
  RequestPath(SessionContext& context, SmbdArea& area, DirectFiles& files, DirectIo& direct,
              PreviousSessions& previous)
      : context_(context),
        area_(area),
        files_(files),
        direct_(direct),
        previous_(previous),
        outbox_(context.budget),
        queue_(context, area, direct, outbox_) {}

  void on_fragment(const Fragment& fragment);
  void on_read_done();
  /// Replies were delivered or memory came back: go on where we stalled.
  void resume();
  /// A READ or WRITE has ended that was done in a thread.
  void on_direct_ended();
  /// SESSION_SETUPs that have waited may go to smbd.
  void on_previous_ended();

  /// Something waits for memory or for replies to be delivered.
  [[nodiscard]] bool stalled() const { return stalled_since_.has_value() || queue_.starved(); }
  [[nodiscard]] Outbox& outbox() { return outbox_; }
  /// Whether smbd has part of a PDU that is not complete, or has bytes still queued here.
  [[nodiscard]] bool unfinished() const;

 private:
  enum class Mode : uint8_t { prefix, stream, gather };
  struct Item {
    SlabRef buffer;
    std::span<const std::byte> data;
    uint64_t total{};
    bool first{};
    bool last{};
  };

  bool consume(Item& item);
  bool decide(std::span<const std::byte> prefix);
  bool decide_stream(const smb2::RequestInfo& info, std::span<const std::byte> prefix);
  bool admit(uint64_t reply_bytes);
  bool begin_gather();
  [[nodiscard]] bool gather_direct(std::span<const std::byte> prefix);
  void gather_into(SlabRef slab);
  void gather(std::span<const std::byte> bytes);
  void finish_gather();
  [[nodiscard]] std::expected<void, smb2::Violation> translate(std::span<std::byte> pdu,
                                                               RequestQueue::Entry& entry);
  [[nodiscard]] bool push_gathered();
  [[nodiscard]] bool go_on();
  [[nodiscard]] bool holds_nothing() const;
  [[nodiscard]] bool sends_nothing() const;
  bool allowed_before_session(const smb2::RequestInfo& info);
  void broken(smb2::Violation violation);
  void broken(std::string why);
  void stall(uint64_t wanted);

  SessionContext& context_;
  SmbdArea& area_;
  DirectFiles& files_;
  DirectIo& direct_;
  PreviousSessions& previous_;
  Outbox outbox_;
  RequestQueue queue_;
  Ring<Item> inbox_;                       // while stalled
  std::optional<uint64_t> stalled_since_;  // loop's time, ms; nothing is taken until resume() got through
  bool broken_ = false;
  bool negotiated_ = false;  // the first PDU was a valid NEGOTIATE

  // The PDU that is arriving.
  Mode mode_ = Mode::prefix;
  uint64_t total_ = 0;
  smb2::RequestInfo info_;
  bool counts_on_ = false;  // its ChannelSequence; decide() has stalled since
  smb2::Ticket streaming_;
  std::optional<smb2::DirectRequest> wanted_;  // gathered because it may be done here
  std::array<std::byte, smb2::kPrefixBytes> prefix_{};
  size_t prefix_have_ = 0;
  SlabRef gathered_;
  size_t gathered_have_ = 0;
  std::unique_ptr<RequestQueue::Entry>
      ready_;  // gathered and translated: stalled, its replies have no room yet
};

}  // namespace smbdirect::workers
