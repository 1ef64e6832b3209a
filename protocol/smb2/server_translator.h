// SPDX-License-Identifier: MIT
// RDMA-channel READ and WRITE turned into what stock smbd understands, and its answers turned back
// (facts 4.3; MS-SMB2 3.3.5.12/13). Owned by one server session, one thread; pure: it edits bytes it is
// given and keeps a table of requests in flight, by MessageId. Steady state allocates nothing: the table
// and the caller's piece lists keep their capacity.
//
// A channel request smbd must refuse (MS-SMB2's INVALID_PARAMETER rules) is rewritten so that smbd itself
// answers STATUS_INVALID_PARAMETER: MessageIds and credits stay smbd's business.
#pragma once

#include <optional>
#include <vector>

#include "protocol/smb2/classify.h"
#include "protocol/smb2/descriptor.h"
#include "protocol/smb2/request_table.h"

namespace smbdirect::protocol::smb2 {

/// Client memory to read with RDMA READ: `length` bytes, from `from` in order.
struct Fetch {
  std::span<const BufferDescriptor> from;  // valid until the request is finished or the translator dies
  uint32_t length{};
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
  void clear() {
    pieces.clear();
    fetches.clear();
    total = reply_bytes = 0;
  }
};

/// What to do with a response, from its first min(total, kPrefixBytes) bytes.
struct ResponsePlan {
  enum class Kind : uint8_t {
    pass,    // send unchanged
    place,   // RDMA WRITE [data_offset, +data_length) of the PDU to `to`, then send `header` instead
             // (data_length 0: there is nothing to write, only `header` to send)
    gather,  // compound with something to translate: gather it all and call response_chain()
  };
  Kind kind = Kind::pass;
  uint32_t data_offset{};
  uint32_t data_length{};
  std::span<const BufferDescriptor> to;  // valid until the next call of request()/response*()
  std::array<std::byte, 80> header{};
  std::optional<uint32_t> invalidate;  // token for SEND with Invalidate
  uint64_t released{};                 // reserved bytes of the requests this response finishes
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
  uint64_t total{};
  uint64_t released{};
  void clear() {
    pieces.clear();
    placements.clear();
    invalidate.clear();
    total = released = 0;
  }
};

class ServerTranslator {
 public:
  struct Limits {
    uint32_t max_read_write_size = 8 * 1024 * 1024;  // what we advertised (MS-SMBD MaxReadWriteSize)
    uint32_t max_requests = 8192;                    // in flight; smbd's own `smb2 max credits`
  };
  explicit ServerTranslator(const Limits& limits);

  /// A streamed request (route stream, not opaque) goes to smbd: remember its reservation.
  /// Errors: those of RequestTable::add.
  [[nodiscard]] std::expected<void, Violation> note(const RequestInfo& info);
  /// A gathered request: one PDU or a chain, complete. Edits `pdu` in place, fills `out`.
  /// `pdu` must stay valid until `out` has been sent.
  /// Errors end the connection; nothing of the PDU may have been forwarded.
  [[nodiscard]] std::expected<void, Violation> request(std::span<std::byte> pdu, RewrittenRequest& out);

  /// prefix: the first min(total, kPrefixBytes) bytes of a PDU of `total` bytes from smbd. Of a compound
  /// nothing is settled here: response_chain() does it all.
  [[nodiscard]] std::expected<ResponsePlan, Violation> response(std::span<const std::byte> prefix,
                                                                uint64_t total);
  /// A gathered response. Edits `pdu` in place; it must stay valid until `out` has been placed and sent.
  [[nodiscard]] std::expected<void, Violation> response_chain(std::span<std::byte> pdu, ChainPlan& out);

  [[nodiscard]] uint16_t dialect() const { return dialect_; }  // 0 until smbd's NEGOTIATE response was seen
  [[nodiscard]] size_t in_flight() const { return table_.size(); }
  /// Channel requests so far that smbd was made to answer with STATUS_INVALID_PARAMETER.
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
  };

  [[nodiscard]] std::expected<void, Violation> request_element(const Element& element,
                                                               std::span<std::byte> bytes, uint64_t after,
                                                               RewrittenRequest& out);
  void rewrite(const InFlight& request, bool last, std::span<std::byte> bytes, RewrittenRequest& out);
  /// `prefix`: the first bytes, at least min(length, kPrefixBytes), of a response of `length` bytes.
  [[nodiscard]] std::expected<Settled, Violation> settle(const Header& header,
                                                         std::span<const std::byte> prefix, uint64_t length);
  [[nodiscard]] std::expected<void, Violation> learn_negotiated(const Header& header,
                                                                std::span<const std::byte> prefix);

  Limits limits_;
  RequestTable table_;
  uint16_t dialect_ = 0;
  uint32_t max_read_ = 0;   // smbd's MaxReadSize, or ours if smaller
  uint32_t max_write_ = 0;  // likewise
  uint64_t refused_ = 0;
};

}  // namespace smbdirect::protocol::smb2
