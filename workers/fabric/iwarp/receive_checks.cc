// SPDX-License-Identifier: MIT
// The receive path's rules: which segments a peer may send when (RFC 5040 5-7, RFC 5041 5-7), and what a
// message that has arrived whole does.
#include <cstring>

#include "workers/fabric/iwarp/receive_path.h"

namespace smbdirect::workers::fabric::iwarp {

bool ReceivePath::begin_tagged(const DdpHeader& header, uint32_t payload) {
  switch (static_cast<RdmapOpcode>(header.opcode)) {
    case RdmapOpcode::rdma_write:
      kind_ = Kind::rdma_write;
      return begin_write(header, payload);
    case RdmapOpcode::read_response:
      kind_ = Kind::read_response;
      return begin_read_response(header, payload);
    default:
      return reject(terminate::kUnexpectedOpcode, "a tagged segment with an opcode of untagged messages");
  }
}

bool ReceivePath::begin_write(const DdpHeader& header, uint32_t payload) {
  if (payload == 0) return true;  // names no byte, so no tag is looked at (RFC 5040 5.1)
  const Stag* tag = state_.stags.find(header.stag);
  if (tag == nullptr)
    return reject(terminate::kTaggedInvalidStag, "an RDMA WRITE to an unknown or revoked STag");
  if (tag->use != StagUse::remote_write) {
    return reject(terminate::kAccessRights, "an RDMA WRITE to an STag that may not be written");
  }
  switch (check_range(*tag, header.offset, payload)) {
    case RangeFault::wrap:
      return reject(terminate::kTaggedOffsetWrap, "an RDMA WRITE whose tagged offset wraps");
    case RangeFault::bounds:
      return reject(terminate::kTaggedBounds, "an RDMA WRITE outside the STag's memory");
    case RangeFault::none:
      break;
  }
  placing_ = header.stag;
  place_ = tag->memory + (header.offset - tag->offset);
  return true;
}

bool ReceivePath::begin_read_response(const DdpHeader& header, uint32_t payload) {
  if (state_.reads_outstanding.empty()) {
    return reject(terminate::kUnexpectedOpcode, "a Read Response that answers no READ");
  }
  const OutstandingRead& read = state_.reads_outstanding.front();
  if (header.stag != read.stag) {
    return reject(terminate::kTaggedInvalidStag,
                  "a Read Response to another STag than the oldest READ's sink");
  }
  const uint32_t left = read.length - read.received;
  if (header.offset != read.offset + read.received || payload > left) {
    return reject(terminate::kTaggedBounds, "a Read Response that does not continue the READ in order");
  }
  if (header.last && payload != left) {
    return reject(terminate::kTaggedBounds, "a Read Response shorter than the READ");
  }
  placing_ = header.stag;
  place_ = read.memory + read.received;
  return true;
}

bool ReceivePath::begin_untagged(const DdpHeader& header, uint32_t payload) {
  const auto opcode = static_cast<RdmapOpcode>(header.opcode);
  if (header.queue > kTerminateQueue)
    return reject(terminate::kInvalidQueue, "a segment for an unknown queue");
  switch (opcode) {
    case RdmapOpcode::send:
    case RdmapOpcode::send_invalidate:
    case RdmapOpcode::send_se:
    case RdmapOpcode::send_se_invalidate:
      if (header.queue != kSendQueue) break;
      kind_ = Kind::send;
      return begin_send(header, payload);
    case RdmapOpcode::read_request:
      if (header.queue != kReadRequestQueue) break;
      kind_ = Kind::read_request;
      return begin_read_request(header, payload);
    case RdmapOpcode::terminate:
      if (header.queue != kTerminateQueue) break;
      kind_ = Kind::terminate;
      return begin_terminate(header, payload);
    default:
      break;
  }
  return reject(terminate::kUnexpectedOpcode, "an opcode that does not belong on its queue");
}

bool ReceivePath::begin_send(const DdpHeader& header, uint32_t payload) {
  if (header.msn != send_msn_) return reject(terminate::kMsnRange, "a SEND out of sequence");
  if (header.mo != send_received_) return reject(terminate::kInvalidMo, "a SEND segment out of order");
  if (in_send_ && header.opcode != send_opcode_) {
    return reject(terminate::kUnexpectedOpcode, "a SEND whose segments disagree on the opcode");
  }
  // An initiator may say "ready to receive" with a SEND of nothing; no receive is posted for it.
  swallow_ = first_ && state_.rtr_empty && payload == 0 && header.last;
  if (swallow_) return true;
  if (state_.receives.empty()) return reject(terminate::kNoBuffer, "a SEND for which no receive is posted");
  const PostedReceive& receive = state_.receives.front();
  if (payload > receive.length - send_received_) {
    return reject(terminate::kMessageTooLong, "a SEND longer than the posted receive");
  }
  in_send_ = true;
  send_opcode_ = header.opcode;
  place_ = receive.memory + send_received_;
  return true;
}

bool ReceivePath::begin_read_request(const DdpHeader& header, uint32_t payload) {
  // Its 28 bytes count as header here, so payload is what is left beyond them.
  if (header.msn != read_msn_) return reject(terminate::kMsnRange, "a Read Request out of sequence");
  if (header.mo != 0) return reject(terminate::kInvalidMo, "a Read Request in more than one segment");
  if (payload > 0) return reject(terminate::kMessageTooLong, "a Read Request of the wrong length");
  if (raw_size_ != kMaxSegmentHeader || !header.last) {
    return reject(terminate::kUnspecified, "a Read Request of the wrong length");
  }
  return true;
}

bool ReceivePath::begin_terminate(const DdpHeader& header, uint32_t payload) {
  if (header.msn != 1) return reject(terminate::kMsnRange, "a second Terminate");
  if (header.mo != 0 || !header.last)
    return reject(terminate::kInvalidMo, "a Terminate in more than one segment");
  if (payload > terminate_.size())
    return reject(terminate::kMessageTooLong, "a Terminate of the wrong length");
  place_ = terminate_.data();
  return true;
}

void ReceivePath::finish() {
  switch (kind_) {
    case Kind::send:
      return finish_send();
    case Kind::rdma_write:
      state_.traffic.peer_write_bytes += payload_;
      if (header_.last) ++state_.traffic.peer_writes;
      return;
    case Kind::read_request:
      return finish_read_request();
    case Kind::read_response:
      return finish_read_response();
    case Kind::terminate:
      return finish_terminate();
    case Kind::empty:
    case Kind::none:
      return;
  }
}

void ReceivePath::finish_send() {
  send_received_ += payload_;
  if (!header_.last) return;
  ++send_msn_;
  const uint32_t bytes = send_received_;
  send_received_ = 0;
  in_send_ = false;
  if (swallow_) return;
  const auto opcode = static_cast<RdmapOpcode>(header_.opcode);
  const bool invalidate = opcode == RdmapOpcode::send_invalidate || opcode == RdmapOpcode::send_se_invalidate;
  if (invalidate) {
    const uint32_t token = header_.invalidate_stag;
    const Stag* tag = state_.stags.find(token);
    if (tag == nullptr || tag->use == StagUse::read_sink) {
      return fail(terminate::kCannotInvalidate, "a SEND that invalidates an STag not its own");
    }
    for (uint32_t i = 0; i < state_.inbound_reads.size(); ++i) {
      if (state_.inbound_reads[i].request.source_stag == token && state_.inbound_reads[i].request.size > 0) {
        return fail(terminate::kCannotInvalidate, "a SEND that invalidates an STag still being read");
      }
    }
    state_.stags.remove(token);
  }
  state_.complete({.id = state_.receives.front().id,
                   .op = Op::receive,
                   .bytes = bytes,
                   .invalidated = invalidate,
                   .invalidated_token = invalidate ? header_.invalidate_stag : 0});
  state_.receives.drop();
  ++state_.traffic.receives;
}

void ReceivePath::finish_read_request() {
  const auto request = parse_read_request(std::span(raw_).subspan(kUntaggedHeaderSize));
  if (!request) return fail(terminate::kUnspecified, "a Read Request of the wrong length");
  const uint32_t msn = read_msn_++;
  if (state_.inbound_reads.size() >= state_.ird) {
    return fail(terminate::kNoBuffer, "more READs at once than were agreed (IRD)");
  }
  if (request->size > 0) {
    const Stag* tag = state_.stags.find(request->source_stag);
    if (tag == nullptr) return fail(terminate::kReadInvalidStag, "a READ of an unknown or revoked STag");
    if (tag->use != StagUse::remote_read) {
      return fail(terminate::kAccessRights, "a READ of an STag that may not be read");
    }
    switch (check_range(*tag, request->source_offset, request->size)) {
      case RangeFault::wrap:
        return fail(terminate::kReadOffsetWrap, "a READ whose tagged offset wraps");
      case RangeFault::bounds:
        return fail(terminate::kReadBounds, "a READ outside the STag's memory");
      case RangeFault::none:
        break;
    }
  }
  state_.inbound_reads.push({.request = *request, .msn = msn});
}

void ReceivePath::finish_read_response() {
  OutstandingRead& read = state_.reads_outstanding.front();
  read.received += payload_;
  if (!header_.last) return;
  state_.stags.remove(read.stag);
  state_.complete({.id = read.id, .op = Op::rdma_read, .bytes = read.length});
  ++state_.traffic.reads;
  ++state_.response_received;  // a READ of no bytes has come back too
  state_.traffic.read_bytes += read.length;
  state_.reads_outstanding.drop();
}

void ReceivePath::finish_terminate() {
  const auto message = parse_terminate(std::span(terminate_).first(payload_));
  if (!message) return fail(terminate::kMessageTooLong, "a Terminate of the wrong length");
  Fault& fault = state_.fault.emplace();
  fault.code = message->code;
  fault.from_peer = true;
  fault.why = "the peer sent a Terminate";
}

}  // namespace smbdirect::workers::fabric::iwarp
