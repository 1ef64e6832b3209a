// SPDX-License-Identifier: MIT
// RDMA-channel READ and WRITE turned into what stock smbd understands, and its answers turned back
// (docs/internals.md: the way of a READ; MS-SMB2 3.3.5.12/13). Owned by one server session, one thread; pure:
// it edits bytes it is given and keeps a table of requests in flight, by MessageId. Steady state allocates
// nothing: the table and the caller's piece lists keep their capacity.
//
// An RDMA-channel request that must be refused (MS-SMB2's INVALID_PARAMETER rules, or no session yet) is
// rewritten so that smbd itself answers with an error, because smbd manages MessageIds and credits.
//
// Neither side is trusted. A response completes a request only when all of the request has been sent to smbd
// (forwarded()). The fields read from a response are checked against its request, and every contradiction is
// a Violation.
#pragma once

#include <optional>
#include <vector>

#include "protocol/smb2/area_carrier.h"
#include "protocol/smb2/channel_sequence.h"
#include "protocol/smb2/classify.h"
#include "protocol/smb2/connection_sessions.h"
#include "protocol/smb2/descriptor.h"
#include "protocol/smb2/direct_request.h"
#include "protocol/smb2/file_order.h"
#include "protocol/smb2/rdma_channel.h"
#include "protocol/smb2/request_table.h"
#include "protocol/smb2/response_body.h"
#include "protocol/smb2/sequence_ledger.h"

namespace smbdirect::protocol::smb2 {

/// Client memory to read with RDMA READ: `length` bytes, from its descriptors in order. They stay where they
/// came, in the gathered PDU, which its owner keeps until the request has been sent, whatever smbd says.
class Fetch {
 public:
  Fetch(std::span<const std::byte> info, uint32_t bytes) : length(bytes), info_(info) {}
  [[nodiscard]] size_t count() const { return info_.size() / kDescriptorBytes; }
  /// nullopt: there are not so many.
  [[nodiscard]] std::optional<BufferDescriptor> descriptor(size_t index) const {
    if (index >= count()) return std::nullopt;
    return load_descriptor(info_.subspan(index * kDescriptorBytes, kDescriptorBytes));
  }
  uint32_t length;

 private:
  std::span<const std::byte> info_;
};

/// A request PDU the translator knows: to be handed to forwarded() when its last byte went to smbd's stream.
struct Ticket {
  RequestTable::Pdu requests;
  uint32_t cancels = 0;
  bool opaque = false;
};

/// A rewritten request is the pieces in order; its length on the wire is `total`.
struct Piece {
  std::span<const std::byte> bytes;  // of the gathered PDU (edited in place) or static zeros
  int32_t fetch = -1;                // >= 0: instead of bytes, all bytes of fetches[fetch]
};

struct RewrittenRequest {
  std::vector<Piece> pieces;
  std::vector<Fetch> fetches;
  uint64_t total{};
  uint64_t reply_bytes{};  // to reserve
  Ticket ticket;
  /// Its data goes through this place: what is fetched is for the area, and the pieces are the carrier.
  std::optional<AreaPlace> area;
  CarrierBytes carrier{};  // what pieces point into, then
  void clear() {
    area.reset();
    pieces.clear();
    fetches.clear();
    total = reply_bytes = 0;
    ticket = {};
  }
};

/// A request whose final response came, without smbd having said before that it waits.
struct Answered {
  Command command{};
  uint64_t forwarded_at{};  // as forwarded() was told
};

/// What to do with a response, from its first min(total, kPrefixBytes) bytes.
struct ResponsePlan {
  enum class Kind : uint8_t {
    pass,     // send unchanged
    place,    // RDMA WRITE [data_offset, +data_length) of the PDU to `to`, then send `header` instead
              // (data_length 0: there is nothing to write, only `header` to send)
    gather,   // compound with something to translate: gather it all and call response_chain()
    replace,  // the answer to a carrier: RDMA WRITE `data_length` bytes of the area at `area_offset` to `to`,
              // then send `header` instead
    swallow,  // send nothing: it is the answer to an ECHO of the ledger's
  };
  Kind kind = Kind::pass;
  uint32_t data_offset{};
  uint32_t data_length{};
  std::span<const BufferDescriptor> to;  // valid until the next call of the translator
  std::array<std::byte, 80> header{};
  size_t header_bytes = 80;  // of it
  /// With pass: the first kHeaderBytes are sent as they are in `header`.
  bool told = false;
  uint64_t area_offset{};  // with replace: the place...
  uint32_t area_length{};  // ... and how large it is
  uint32_t moved{};        // ... and the bytes that the READ or WRITE has moved
  bool final = false;      // ... no other answer follows
  /// ... and nobody at smbd moves data of the place any more: it is free when the data has been sent.
  bool area_released = false;
  std::optional<uint32_t> invalidate;  // token for SEND with Invalidate
  /// Reserved bytes that come back: of what is finished, and all but kReplyToken of what waits from now on.
  uint64_t released{};
  bool session_set_up = false;     // the client has a session on this connection now, new or bound
  std::optional<Command> command;  // of the (first) response; nothing: it is opaque
  std::optional<Answered> answered;
  std::optional<FileId> written;  // smbd has done a WRITE on this file
  uint64_t previous_session{};    // of the SESSION_SETUP that this answers, for good or bad; 0: none
};

/// What goes into the answer to a request that is answered here.
struct AnsweredHere {
  uint16_t credits{};
  std::optional<uint32_t> invalidate;    // token for SEND with Invalidate
  std::span<const BufferDescriptor> to;  // READ by RDMA; valid until the next call of the translator
  uint64_t released{};                   // reserved bytes that come back
};

/// A compound response rewritten: place everything, then send the pieces.
struct Placement {
  std::span<const std::byte> data;
  std::span<const BufferDescriptor> to;
};
struct ChainPlan {
  std::vector<Piece> pieces;
  std::vector<Placement> placements;
  std::vector<uint32_t> invalidate;  // one per distinct SEND fragment
  std::vector<Answered> answered;
  uint64_t total{};
  uint64_t released{};
  bool session_set_up = false;
  void clear() {
    pieces.clear();
    placements.clear();
    invalidate.clear();
    answered.clear();
    total = released = 0;
    session_set_up = false;
  }
};

class ServerTranslator {
 public:
  struct Limits {
    uint32_t max_read_write_size = 8 * 1024 * 1024;  // what we advertised (MS-SMBD MaxReadWriteSize)
    // In flight. smbd bounds by credits only those that it has not answered STATUS_PENDING; 8192 folders to
    // watch are not many. At kReplyToken each, which admission counts.
    uint32_t max_requests = 65536;
    uint64_t max_opaque_bytes = 4 * 1024 * 1024;  // reserved for opaque requests together
    uint64_t table_secret = 0;                    // RequestTable's
  };
  explicit ServerTranslator(const Limits& limits);

  /// classify_request(), with what an opaque request reserves bounded by those before it: some of them are
  /// CANCELs that nothing answers.
  [[nodiscard]] std::expected<RequestInfo, Violation> classify(std::span<const std::byte> prefix,
                                                               uint64_t total) const;
  /// A request of route stream goes to smbd: remember it, and that info.reply_bytes are reserved.
  /// Errors: those of RequestTable::add.
  [[nodiscard]] std::expected<Ticket, Violation> note(const RequestInfo& info);
  /// A gathered request: one PDU or a chain, complete. Edits `pdu` in place, fills `out`.
  /// `pdu` must stay valid until `out` has been sent.
  /// Errors end the connection; nothing of the PDU may have been forwarded.
  [[nodiscard]] std::expected<void, Violation> request(std::span<std::byte> pdu, RewrittenRequest& out);
  /// Whether the request may go through an area; nothing is changed.
  [[nodiscard]] std::optional<AreaIo> area_io(std::span<const std::byte> pdu) const;
  /// Instead of request(), for one that may, with a place for its length. False, and nothing is changed:
  /// there is no room for its descriptors, and it is for request().
  [[nodiscard]] std::expected<bool, Violation> request_by_area(std::span<const std::byte> pdu,
                                                               const AreaPlace& place, RewrittenRequest& out);

  /// A gathered READ or WRITE holds up what else is done on its file, as long as it is at smbd. Before it is
  /// forwarded.
  void hold_file(const Ticket& ticket);
  /// The request, if it could be answered here; nothing is changed. As for parse_direct_request(); before the
  /// request is noted or gathered, which it is then as any.
  [[nodiscard]] std::optional<DirectRequest> direct_request(std::span<const std::byte> pdu,
                                                            uint64_t total) const;
  /// Whether it may be done here, instead of being forwarded: asked at its turn, before anything is done. It
  /// may be forwarded nevertheless, as long as its answer has not begun.
  [[nodiscard]] bool begin_here(const Ticket& ticket, const DirectRequest& request);
  /// Its client has an interim response (answer_interim()): should smbd do it after all, its answer is made
  /// to fit that.
  void told_pending(const Ticket& ticket);
  /// It is answered here, was begun here and was not forwarded. The answer is direct_request.h's.
  [[nodiscard]] AnsweredHere answered_here(const Ticket& ticket, const DirectRequest& request);
  /// What smbd is to be told of those: due(), owes(), tell().
  [[nodiscard]] SequenceLedger& ledger() { return ledger_; }

  /// The last byte of a noted or gathered request went to smbd's stream: from now on it can be answered. Once
  /// for each ticket, in the order of smbd's stream, which need not be that of the requests. at_time: by the
  /// caller's clock, for Answered.
  void forwarded(const Ticket& ticket, uint64_t at_time = 0);

  /// prefix: the first min(total, kPrefixBytes) bytes of a PDU of `total` bytes from smbd. Of a compound
  /// nothing is settled here: response_chain() does it all.
  [[nodiscard]] std::expected<ResponsePlan, Violation> response(std::span<const std::byte> prefix,
                                                                uint64_t total);
  /// A gathered response. Edits `pdu` in place; it must stay valid until `out` has been placed and sent.
  [[nodiscard]] std::expected<void, Violation> response_chain(std::span<std::byte> pdu, ChainPlan& out);

  /// Whether smbd has something of the client's that a READ or WRITE on this file must not overtake.
  [[nodiscard]] bool holds(const FileId& file) const { return opaque_seen_ || order_.holds(file); }

  [[nodiscard]] uint16_t dialect() const { return dialect_; }  // 0 until smbd's NEGOTIATE response was seen
  [[nodiscard]] size_t in_flight() const { return table_.size(); }
  /// What the requests in flight take.
  [[nodiscard]] size_t bytes() const { return table_.bytes(); }
  void trim() { table_.trim(); }
  /// Whether smbd has answered a SESSION_SETUP with success.
  [[nodiscard]] bool has_session() const { return has_session_; }
  /// Whether what names that session may be answered here.
  [[nodiscard]] bool usable(uint64_t session_id) const { return sessions_.usable(session_id); }
  /// Whether smbd may close what is open in it.
  [[nodiscard]] bool may_close(uint64_t session_id) const { return sessions_.may_close(session_id); }
  /// What smbd has agreed to; nullopt until its NEGOTIATE response was seen.
  [[nodiscard]] const std::optional<NegotiateResponse>& negotiated() const { return negotiated_; }
  /// RDMA-channel requests so far that smbd was made to answer with an error.
  [[nodiscard]] uint64_t refused_requests() const { return refused_; }

 private:
  /// What a response means for the request it answers.
  struct Settled {
    bool place = false;
    uint32_t data_offset{};
    uint32_t data_length{};
    std::span<const BufferDescriptor> to;
    std::optional<uint32_t> invalidate;
    uint64_t released{};
    bool session_set_up = false;
    std::optional<Answered> answered;
    std::optional<FileId> written;
    uint64_t previous_session{};
    bool told = false;  // as in ResponsePlan
  };

  [[nodiscard]] std::expected<void, Violation> request_element(const Element& element,
                                                               std::span<std::byte> bytes, uint64_t after,
                                                               RewrittenRequest& out);
  void rewrite(const InFlight& request, std::span<const std::byte> info, bool last,
               std::span<std::byte> bytes, RewrittenRequest& out);
  void spare(RewrittenRequest& out);
  /// It is answered, and forgotten.
  void forget(InFlight& request);
  /// `prefix`: the first bytes, at least min(length, kPrefixBytes), of a response of `length` bytes.
  [[nodiscard]] std::expected<Settled, Violation> settle(const Header& header,
                                                         std::span<const std::byte> prefix, uint64_t length);
  /// The final response to `request`, which is known to be one.
  [[nodiscard]] std::expected<void, Violation> finish(InFlight& request, const Header& header,
                                                      std::span<const std::byte> prefix, uint64_t length,
                                                      Settled& settled);
  [[nodiscard]] std::expected<void, Violation> learn_negotiated(const Header& header,
                                                                std::span<const std::byte> prefix);
  [[nodiscard]] std::expected<void, Violation> unmatched(const Header& header);
  [[nodiscard]] static std::expected<void, Violation> swallow(const Header& header);
  [[nodiscard]] RdmaChannelRules rules_for(Command command) const {
    return {dialect_, command == Command::write ? max_write_ : max_read_};
  }
  [[nodiscard]] std::expected<void, Violation> settle_carrier(InFlight& request, const Header& header,
                                                              std::span<const std::byte> prefix,
                                                              uint64_t length, ResponsePlan& plan);

  Limits limits_;
  RequestTable table_;
  ChannelSequence sequence_;
  ConnectionSessions sessions_;
  FileOrder order_;  // of requests that are at smbd
  SequenceLedger ledger_;
  uint32_t cancels_ = 0;          // forwarded, and not answered, as most never are
  bool opaque_seen_ = false;      // an encrypted request went to smbd
  uint64_t opaque_reserved_ = 0;  // for encrypted requests
  bool has_session_ = false;
  NegotiateRequest offered_;
  std::optional<NegotiateResponse> negotiated_;
  uint16_t dialect_ = 0;
  uint32_t max_read_ = 0;   // smbd's MaxReadSize, or ours if smaller
  uint32_t max_write_ = 0;  // likewise
  uint64_t refused_ = 0;
};

}  // namespace smbdirect::protocol::smb2
