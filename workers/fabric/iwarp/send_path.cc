// SPDX-License-Identifier: MIT
#include "workers/fabric/iwarp/send_path.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include "workers/fabric/iwarp/byte_order.h"
#include "workers/fabric/iwarp/crc32c.h"
#include "workers/fabric/iwarp/mpa.h"

namespace smbdirect::workers::fabric::iwarp {

SendPath::SendPath(StreamState& state) : state_(state) {}

void SendPath::make_batch(size_t fpdus) {
  most_fpdus_ = fpdus;
  slots_.reset();
  vectors_.reset();
  if (fpdus == 0) return;
  slots_ = std::make_unique_for_overwrite<std::array<std::byte, kSlotSize>[]>(fpdus + 1);
  vectors_ = std::make_unique_for_overwrite<iovec[]>(fpdus * kVectorsEach + kMaxPieces + 3);
}

void SendPath::trim() {
  marks_.trim();
  if (vectors_gone_ != vectors_used_ || most_fpdus_ == 0) return;
  const size_t peak = std::exchange(peak_fpdus_, 0);
  const size_t keep = peak == 0 ? 0 : std::max(kLeastFpdus, std::bit_ceil(peak) * 2);
  if (keep >= most_fpdus_) return;
  slots_used_ = vectors_used_ = vectors_gone_ = 0;
  cramped_ = false;
  make_batch(keep);
}

std::span<const iovec> SendPath::vectors() {
  if (vectors_gone_ == vectors_used_) build();
  return {vectors_.get() + vectors_gone_, vectors_used_ - vectors_gone_};
}

void SendPath::sent(size_t n) {
  written_ += n;
  while (n > 0) {
    iovec& vector = vectors_[vectors_gone_];
    if (n < vector.iov_len) {
      vector.iov_base = static_cast<std::byte*>(vector.iov_base) + n;
      vector.iov_len -= n;
      break;
    }
    n -= vector.iov_len;
    ++vectors_gone_;
  }
  for (; !marks_.empty() && marks_.front().end <= written_; marks_.drop()) {
    switch (marks_.front().what) {
      case Mark::work: {
        const SendWork& work = state_.work.front();
        state_.complete({.id = work.id, .op = work.op, .bytes = work.length});
        if (work.op == Op::send) {
          ++state_.traffic.sends;
        } else {
          ++state_.traffic.writes;
          state_.traffic.write_bytes += work.length;
        }
        state_.pop_work();
        --work_cut_;
        break;
      }
      case Mark::response:
        ++state_.traffic.peer_reads;
        state_.traffic.peer_read_bytes += state_.inbound_reads.front().request.size;
        state_.inbound_reads.drop();
        --responses_cut_;
        break;
      case Mark::terminate:
        terminate_sent_ = true;
        break;
    }
  }
}

bool SendPath::read_may_go() const {
  return !state_.reads_waiting.empty() && state_.reads_outstanding.size() < state_.ord;
}

bool SendPath::more() const {
  if (terminate_) return !terminate_built_;
  return state_.may_send && (source_ != Source::none || work_waits() || response_waits() || read_may_go());
}

bool SendPath::owes() const {
  return vectors_gone_ != vectors_used_ || !state_.work.empty() || !state_.inbound_reads.empty();
}

bool SendPath::idle() const { return !owes() && state_.reads_waiting.empty(); }

bool SendPath::holds(uint32_t stag) const {
  if (vectors_gone_ == vectors_used_) return false;
  const uint32_t begun = responses_cut_ + (source_ == Source::response ? 1 : 0);
  for (uint32_t i = 0; i < begun; ++i) {
    if (state_.inbound_reads[i].request.source_stag == stag) return true;
  }
  return false;
}

bool SendPath::room() const {
  return batch_bytes_ < (state_.crc ? kBatchBytesCrc : kBatchBytes) && slots_used_ < most_fpdus_ &&
         vectors_used_ <= most_fpdus_ * kVectorsEach;
}

void SendPath::build() {
  slots_used_ = vectors_used_ = vectors_gone_ = batch_bytes_ = trailer_ = 0;
  if (!more() || (state_.fault && !terminate_)) return;
  // As large as what waits: a batch that ends early tells TCP to wait for the next one.
  if (most_fpdus_ < kMaxFpdus) {
    const size_t wanted = std::bit_ceil(cramped_ ? most_fpdus_ * 2 : waiting_fpdus());
    if (wanted > most_fpdus_) make_batch(std::clamp(wanted, kLeastFpdus, kMaxFpdus));
  }
  if (terminate_) add_terminate();
  while (!terminate_ && !state_.fault && room()) {
    if (source_ == Source::none) {
      if (read_may_go()) {
        add_read_request();
        continue;
      }
      choose();
    }
    if (source_ == Source::work) {
      add_work_segment();
    } else if (source_ == Source::response) {
      add_response_segment();
    } else {
      break;
    }
  }
  if (trailer_ != 0) {
    vectors_[vectors_used_++] = {slots_[slots_used_].data() + kSlotHead - trailer_, trailer_};
    trailer_ = 0;
  }
  cramped_ = slots_used_ == most_fpdus_ || vectors_used_ > most_fpdus_ * kVectorsEach;
  peak_fpdus_ = std::max(peak_fpdus_, slots_used_);
}

/// About, and kMaxFpdus at most.
size_t SendPath::waiting_fpdus() const {
  const auto segments = [this](uint32_t length) {
    return length / (state_.mulpdu - kUntaggedHeaderSize) + 1;
  };
  size_t count = 1 + std::min<size_t>(state_.reads_waiting.size(), state_.ord);
  for (size_t i = work_cut_; i < state_.work.size() && count < kMaxFpdus; ++i) {
    // Pieces need vectors of their own.
    count += segments(state_.work[i].length) + state_.work[i].pieces / kVectorsEach;
  }
  for (size_t i = responses_cut_; i < state_.inbound_reads.size() && count < kMaxFpdus; ++i) {
    count += segments(state_.inbound_reads[i].request.size);
  }
  return std::min(count, kMaxFpdus);
}

void SendPath::choose() {
  const bool work = work_waits();
  const bool response = response_waits();
  if (!work && !response) return;
  source_ = response && (response_turn_ || !work) ? Source::response : Source::work;
  response_turn_ = source_ == Source::work;
  mulpdu_ = state_.mulpdu;
  cut_ = 0;
  piece_ = 0;
  piece_used_ = 0;
}

std::byte* SendPath::open(size_t header_size, uint32_t payload) {
  std::byte* slot = slots_[slots_used_++].data();
  ulpdu_ = header_size + payload;
  head_size_ = kFpduLengthSize + header_size;
  put_be16(slot + kSlotHead, static_cast<uint16_t>(ulpdu_));
  vectors_[vectors_used_++] = {slot + kSlotHead - trailer_, trailer_ + head_size_};
  payload_from_ = vectors_used_;
  trailer_ = 0;
  return slot + kSlotHead + kFpduLengthSize;
}

void SendPath::payload(const std::byte* at, size_t size) {
  if (size == 0) return;
  vectors_[vectors_used_++] = {const_cast<std::byte*>(at), size};
}

// The header is complete and the payload's vectors are in place: adds pad and CRC.
void SendPath::close() {
  const std::byte* slot = slots_[slots_used_ - 1].data();
  const size_t pad = fpdu_pad(ulpdu_);
  trailer_ = pad + kFpduCrcSize;
  // The trailer stands right before the next FPDU's length word, so that one vector covers both.
  std::byte* trailer = slots_[slots_used_].data() + kSlotHead - trailer_;
  std::memset(trailer, 0, trailer_);  // without CRC its field is sent as zero
  if (state_.crc) {
    Crc32c crc;
    crc.update({slot + kSlotHead, head_size_});
    for (size_t i = payload_from_; i < vectors_used_; ++i) {
      crc.update({static_cast<const std::byte*>(vectors_[i].iov_base), vectors_[i].iov_len});
    }
    crc.update({trailer, pad});
    std::ranges::copy(crc.wire(), trailer + pad);
  }
  const size_t size = kFpduLengthSize + ulpdu_ + trailer_;
  batch_bytes_ += size;
  built_ += size;
  ++state_.traffic.fpdus_sent;
}

void SendPath::add_read_request() {
  const WaitingRead& read = state_.reads_waiting.front();
  const Stag* sink = state_.stags.add(StagUse::read_sink, {read.memory, read.length});
  if (sink == nullptr) {
    state_.fault = Fault{.code = terminate::kLocalCatastrophic, .why = "out of STags for the sink of a READ"};
    return;
  }
  std::byte* at = open(kMaxSegmentHeader, 0);
  at += encode_ddp_header({.last = true,
                           .opcode = static_cast<uint8_t>(RdmapOpcode::read_request),
                           .queue = kReadRequestQueue,
                           .msn = read_msn_++},
                          at);
  encode_read_request({.sink_stag = sink->stag,
                       .sink_offset = sink->offset,
                       .size = read.length,
                       .source_stag = read.from.token,
                       .source_offset = read.from.offset},
                      at);
  state_.reads_outstanding.push({.id = read.id,
                                 .memory = read.memory,
                                 .length = read.length,
                                 .received = 0,
                                 .stag = sink->stag,
                                 .offset = sink->offset});
  state_.reads_waiting.drop();
  close();
}

void SendPath::add_work_segment() {
  const SendWork& work = state_.work[work_cut_];
  const bool write = work.op == Op::rdma_write;
  const size_t header_size = write ? kTaggedHeaderSize : kUntaggedHeaderSize;
  const uint32_t left = work.length - cut_;
  uint32_t size = std::min<uint32_t>(left, static_cast<uint32_t>(mulpdu_ - header_size));
  const bool last = size == left;
  std::byte* at = open(header_size, size);
  if (write) {
    encode_ddp_header({.tagged = true,
                       .last = last,
                       .opcode = static_cast<uint8_t>(RdmapOpcode::rdma_write),
                       .stag = work.token,
                       .offset = work.offset + cut_},
                      at);
  } else {
    const auto opcode = work.invalidate ? RdmapOpcode::send_invalidate : RdmapOpcode::send;
    encode_ddp_header({.last = last,
                       .opcode = static_cast<uint8_t>(opcode),
                       .invalidate_stag = work.invalidate ? work.token : 0,
                       .queue = kSendQueue,
                       .msn = send_msn_,
                       .mo = cut_},
                      at);
  }
  cut_ += size;
  while (size > 0) {
    const iovec& piece = *state_.pieces_of(work, piece_);
    const size_t part = std::min<size_t>(size, piece.iov_len - piece_used_);
    payload(static_cast<const std::byte*>(piece.iov_base) + piece_used_, part);
    piece_used_ += part;
    size -= static_cast<uint32_t>(part);
    if (piece_used_ == piece.iov_len) {
      ++piece_;
      piece_used_ = 0;
    }
  }
  close();
  if (!last) return;
  if (!write) ++send_msn_;
  marks_.push({built_, Mark::work});
  ++work_cut_;
  source_ = Source::none;
}

void SendPath::add_response_segment() {
  const ReadRequest& request = state_.inbound_reads[responses_cut_].request;
  const uint32_t left = request.size - cut_;
  const uint32_t size = std::min<uint32_t>(left, static_cast<uint32_t>(mulpdu_ - kTaggedHeaderSize));
  const bool last = size == left;
  const std::byte* from = nullptr;
  if (size > 0) {
    // Checked when the request came; revoking the tag since then has ended the stream.
    const Stag* source = state_.stags.find(request.source_stag);
    if (source == nullptr) {
      state_.fault = Fault{.code = terminate::kReadInvalidStag, .why = "the source of a READ is gone"};
      source_ = Source::none;
      return;
    }
    from = source->memory + (request.source_offset - source->offset) + cut_;
  }
  std::byte* at = open(kTaggedHeaderSize, size);
  encode_ddp_header({.tagged = true,
                     .last = last,
                     .opcode = static_cast<uint8_t>(RdmapOpcode::read_response),
                     .stag = request.sink_stag,
                     .offset = request.sink_offset + cut_},
                    at);
  payload(from, size);
  cut_ += size;
  close();
  if (!last) return;
  marks_.push({built_, Mark::response});
  ++responses_cut_;
  source_ = Source::none;
}

void SendPath::add_terminate() {
  std::byte* at = open(kUntaggedHeaderSize, static_cast<uint32_t>(terminate_->size));
  encode_ddp_header({.last = true,
                     .opcode = static_cast<uint8_t>(RdmapOpcode::terminate),
                     .queue = kTerminateQueue,
                     .msn = 1},
                    at);
  payload(terminate_->bytes.data(), terminate_->size);
  close();
  marks_.push({built_, Mark::terminate});
  terminate_built_ = true;
}

}  // namespace smbdirect::workers::fabric::iwarp
