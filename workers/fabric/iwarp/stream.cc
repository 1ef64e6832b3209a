// SPDX-License-Identifier: MIT
#include "workers/fabric/iwarp/stream.h"

#include <algorithm>
#include <limits>

#include "workers/fabric/iwarp/mpa.h"

namespace smbdirect::workers::fabric::iwarp {

Stream::Stream(const StreamLimits& limits, EntropySource entropy)
    : limits_{.max_send_work = std::max(limits.max_send_work, 1U),
              .max_receive_work = std::max(limits.max_receive_work, 1U),
              .max_inbound_reads = std::max<uint16_t>(limits.max_inbound_reads, 1),
              .max_outbound_reads = std::max<uint16_t>(limits.max_outbound_reads, 1)},
      state_(entropy),
      send_(state_),
      receive_(state_) {}

void Stream::establish(const Agreed& agreed, uint32_t segment_size, bool may_send) {
  state_.crc = agreed.crc;
  state_.rtr_empty = agreed.rtr_empty;
  state_.ird = std::min(agreed.ird, limits_.max_inbound_reads);
  state_.ord = std::min(agreed.ord, limits_.max_outbound_reads);
  state_.may_send = may_send;
  set_segment_size(segment_size);
}

void Stream::set_segment_size(uint32_t segment_size) { state_.mulpdu = max_ulpdu(segment_size); }

std::expected<void, PostError> Stream::post_receive(uint64_t id, Sge into) {
  if (receives_outstanding_ == limits_.max_receive_work) return std::unexpected(PostError::queue_full);
  state_.receives.push({.id = id, .memory = into.addr, .length = into.length});
  ++receives_outstanding_;
  return {};
}

std::expected<void, PostError> Stream::post_work(SendWork work, std::span<const Sge> pieces) {
  if (send_room() == 0) return std::unexpected(PostError::queue_full);
  if (pieces.size() > kMaxPieces) return std::unexpected(PostError::too_many_sges);
  uint64_t length = 0;
  for (const Sge& piece : pieces) length += piece.length;
  // DDP counts a message's bytes in 32 bits.
  if (length > std::numeric_limits<uint32_t>::max()) return std::unexpected(PostError::too_many_sges);
  work.length = static_cast<uint32_t>(length);
  work.first_piece = state_.pieces_done + state_.pieces.size();
  for (const Sge& piece : pieces) {
    if (piece.length == 0) continue;
    state_.pieces.push({piece.addr, piece.length});
    ++work.pieces;
  }
  state_.work.push(work);
  ++outstanding_;
  return {};
}

std::expected<void, PostError> Stream::post_send(uint64_t id, std::span<const Sge> pieces,
                                                 const uint32_t* invalidate) {
  return post_work({.id = id,
                    .first_piece = 0,
                    .op = Op::send,
                    .invalidate = invalidate != nullptr,
                    .pieces = 0,
                    .token = invalidate != nullptr ? *invalidate : 0,
                    .offset = 0,
                    .length = 0},
                   pieces);
}

std::expected<void, PostError> Stream::post_write(uint64_t id, std::span<const Sge> pieces, RemoteMemory to) {
  return post_work({.id = id,
                    .first_piece = 0,
                    .op = Op::rdma_write,
                    .invalidate = false,
                    .pieces = 0,
                    .token = to.token,
                    .offset = to.offset,
                    .length = 0},
                   pieces);
}

std::expected<void, PostError> Stream::post_read(uint64_t id, Sge into, RemoteMemory from) {
  if (send_room() == 0) return std::unexpected(PostError::queue_full);
  state_.reads_waiting.push({.id = id, .memory = into.addr, .length = into.length, .from = from});
  ++outstanding_;
  return {};
}

std::expected<RemoteMemory, PostError> Stream::expose(std::span<std::byte> memory, Access access) {
  const auto use = access == Access::remote_read ? StagUse::remote_read : StagUse::remote_write;
  const Stag* tag = state_.stags.add(use, memory);
  if (tag == nullptr) return std::unexpected(PostError::queue_full);
  return RemoteMemory{.offset = tag->offset, .token = tag->stag};
}

void Stream::unexpose(uint32_t token) {
  const Stag* tag = state_.stags.find(token);
  if (tag == nullptr || tag->use == StagUse::read_sink) return;
  state_.stags.remove(token);
  if (state_.fault) {
    // The stream is ending; but a batch that still reads this memory must not be finished.
    if (send_.holds(token)) state_.fault->silent = true;
    return;
  }
  if (receive_.places_into(token)) {
    receive_.fail(terminate::kTaggedInvalidStag, "memory was revoked while the peer was writing it");
    return;
  }
  for (uint32_t i = 0; i < state_.inbound_reads.size(); ++i) {
    const ReadRequest& request = state_.inbound_reads[i].request;
    if (request.source_stag != token || request.size == 0) continue;
    Fault& fault = state_.fault.emplace();
    fault.code = terminate::kReadInvalidStag;
    fault.why = "memory was revoked while the peer was reading it";
    fault.silent = send_.holds(token);
    return;
  }
}

void Stream::terminate(const Fault& fault) {
  if (!state_.fault) state_.fault = fault;
  send_.terminate(
      encode_terminate(fault.code, std::span(fault.header).first(fault.header_size), fault.segment_length));
}

bool Stream::drained() const {
  if (!state_.may_send) return true;
  return send_.idle() && state_.reads_outstanding.empty();
}

Progress Stream::progress() const {
  return {.reading = !state_.reads_waiting.empty() || !state_.reads_outstanding.empty(),
          .receiving = receive_.inside_message(),
          .sending = send_.owes(),
          .read = state_.response_received,
          .received = state_.payload_received,
          .acknowledged = send_.written()};
}

void Stream::trim() {
  state_.trim();
  send_.trim();
  receive_.trim();
}

std::span<const Completion> Stream::hand_out_completed() {
  state_.done_peak = std::max(state_.done_peak, state_.done.size());
  state_.handed_out.clear();
  std::swap(state_.done, state_.handed_out);
  for (const Completion& completion : state_.handed_out) {
    if (completion.op == Op::receive) {
      --receives_outstanding_;
    } else {
      --outstanding_;
    }
  }
  return state_.handed_out;
}

}  // namespace smbdirect::workers::fabric::iwarp
