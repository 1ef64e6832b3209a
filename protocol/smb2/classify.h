// SPDX-License-Identifier: MIT
// What to do with a request from the first bytes of it: stream it through, or gather it first; what its
// reply may cost; whether it may overtake a pending RDMA READ. Pure.
#pragma once

#include "protocol/smb2/file_order.h"
#include "protocol/smb2/pdu.h"

namespace smbdirect::protocol::smb2 {

/// Enough of a PDU to classify it (all of it when it is shorter): READ and WRITE fixed parts end here, and so
/// does the resume key of a COPYCHUNK.
inline constexpr size_t kPrefixBytes = 144;

struct RequestInfo {
  enum class Route : uint8_t {
    stream,  // pass through byte-identical as it arrives
    gather,  // NEGOTIATE, compound or RDMA-channel I/O: must be complete before anything is forwarded
  };
  Route route = Route::stream;
  bool opaque = false;  // encrypted or compressed: nothing below is known
  Command command{};
  uint64_t message_id{};
  uint64_t session_id{};
  uint32_t tree_id{};
  uint16_t credit_charge{};
  uint16_t channel_sequence{};
  FileId file_id{};              // READ and WRITE, and with Holds::file
  Holds holds = Holds::nothing;  // of READs and WRITEs that are done here
  bool may_pass = false;         // plain, uncompounded READ/WRITE/ECHO
  bool rdma_channel = false;     // uncompounded READ or WRITE with Channel != 0
  bool signed_io = false;        // READ or WRITE, signed
  uint64_t previous_session{};   // of an uncompounded SESSION_SETUP: the session that ends with it; 0: none
  uint32_t length{};             // READ and WRITE: bytes to move, as asked inline
  uint64_t reply_bytes{};  // to reserve before forwarding: READ Length, OutputBufferLength, nothing for a
                           // CANCEL, kReplyToken for an answer of fixed size, else 64 KiB x CreditCharge.
                           // Opaque: 64 KiB, or nothing when it is as short as a CANCEL
};

/// prefix: the first min(total, kPrefixBytes) bytes of a request PDU of `total` bytes.
/// Refuses: unknown protocol ids, SMB1, responses, signed RDMA-channel requests, bad sizes, more than a
/// stream can carry, resume keys that bear our mark. ServerTranslator::classify() is this, and knows what
/// other requests have reserved.
[[nodiscard]] std::expected<RequestInfo, Violation> classify_request(std::span<const std::byte> prefix,
                                                                     uint64_t total);

}  // namespace smbdirect::protocol::smb2
