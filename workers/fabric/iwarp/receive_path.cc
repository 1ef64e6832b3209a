// SPDX-License-Identifier: MIT
#include "workers/fabric/iwarp/receive_path.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include "workers/fabric/iwarp/byte_order.h"
#include "workers/fabric/iwarp/mpa.h"

namespace smbdirect::workers::fabric::iwarp {

ReceivePath::ReceivePath(StreamState& state)
    : state_(state), last_head_(kFpduLengthSize + kUntaggedHeaderSize) {}

void ReceivePath::make_room(size_t size) {
  if (size <= staging_size_) return;
  size = std::bit_ceil(size);
  auto wider = std::make_unique_for_overwrite<std::byte[]>(size);
  if (staged_end_ > 0) std::memcpy(wider.get(), staging_.get(), staged_end_);
  staging_ = std::move(wider);
  staging_size_ = size;
}

void ReceivePath::trim() {
  if (std::exchange(touched_, false) || staged() > 0) return;
  staging_.reset();
  steps_.reset();
  staging_size_ = staged_begin_ = staged_end_ = 0;
  small_run_ = 0;
}

size_t ReceivePath::ahead(size_t need) const {
  if (!small_follows_[small_ ? 1 : 0]) return need;
  return std::max(need, kFirstBulk << std::min(small_run_, 3U));
}

std::span<iovec> ReceivePath::vectors() {
  if (staged_begin_ > 0) {
    // Whatever is left is less than a header and a trailer.
    std::memmove(staging_.get(), stage(), staged());
    staged_end_ = staged();
    staged_begin_ = 0;
  }
  if (staging_size_ > kStagingSize && staged() == 0) {
    staging_.reset();  // it was for what a plan had left behind
    staging_size_ = 0;
  }
  size_t count = 0;
  size_t need = 0;
  steps_used_ = 0;
  touched_ = true;
  if (phase_ == Phase::payload) {
    vectors_[count++] = {place_, payload_left_};
    count = plan(count);
    need = fpdu_trailer(ulpdu_) + last_head_;
  } else if (phase_ == Phase::trailer) {
    need = fpdu_trailer(ulpdu_) + last_head_ - std::min(staged(), fpdu_trailer(ulpdu_));
  } else {
    need = head_need() - staged();
  }
  const size_t from = steps_used_ > 0 ? kPlanRoom : staged_end_;
  make_room(std::min(from + ahead(need), kStagingSize));
  vectors_[count++] = {staging_.get() + from, std::min(ahead(need), staging_size_ - from)};
  return std::span(vectors_).first(count);
}

// Bytes of the FPDU's length word and header, as far as the staged ones tell.
size_t ReceivePath::head_need() const {
  if (staged() < kFpduLengthSize + 2) return std::max(last_head_, staged() + 1);
  const std::byte* at = stage() + kFpduLengthSize;
  const bool request =
      (std::to_integer<unsigned>(at[1]) & 0x0f) == static_cast<unsigned>(RdmapOpcode::read_request);
  const bool tagged = ddp_header_size(at[0]) == kTaggedHeaderSize;
  const size_t size = request && !tagged ? kMaxSegmentHeader : ddp_header_size(at[0]);
  return kFpduLengthSize + std::min<size_t>(size, get_be16(stage()));
}

void ReceivePath::received(size_t n) {
  if (phase_ == Phase::payload) {
    const size_t part = std::min<size_t>(n, payload_left_);
    placed(part);
    n -= part;
  }
  if (steps_used_ > 0) return follow_plan(n);
  staged_end_ += n;
  parse();
}

void ReceivePath::placed(size_t n) {
  if (state_.crc) crc_.update({place_, n});
  place_ += n;
  payload_left_ -= static_cast<uint32_t>(n);
  state_.payload_received += n;
  if (kind_ == Kind::read_response) state_.response_received += n;
}

void ReceivePath::parse() {
  while (!state_.fault) {
    switch (phase_) {
      case Phase::header:
        if (!take_header()) return;
        break;
      case Phase::payload:
        if (!take_payload()) return;
        break;
      case Phase::trailer:
        if (!take_trailer()) return;
        break;
    }
  }
}

bool ReceivePath::take_header() {
  if (staged() < kFpduLengthSize) return false;
  ulpdu_ = get_be16(stage());
  const size_t least = ulpdu_ == 0 && first_ && state_.rtr_empty ? 0 : kTaggedHeaderSize;
  if (ulpdu_ < least) return reject(terminate::kFpduLength, "an FPDU too short for a DDP header");
  if (least != 0 && staged() < kFpduLengthSize + 2) return false;
  const size_t head = head_need();
  if (least != 0 && staged() < head) return false;
  const auto bytes = std::span(stage(), least == 0 ? kFpduLengthSize : head);
  crc_ = {};
  if (state_.crc) crc_.update(bytes);
  staged_begin_ += bytes.size();
  const bool small = ulpdu_ < kSmallFpdu;
  small_follows_[small_ ? 1 : 0] = small;
  small_ = small;
  small_run_ = small_ ? small_run_ + 1 : 0;
  last_head_ = head;
  placing_ = 0;
  place_ = nullptr;
  payload_ = payload_left_ = 0;
  raw_size_ = 0;
  if (least == 0) {
    kind_ = Kind::empty;
    phase_ = Phase::trailer;
    return true;
  }
  const auto raw = bytes.subspan(kFpduLengthSize);
  std::memcpy(raw_.data(), raw.data(), raw.size());
  raw_size_ = raw.size();
  const auto header = parse_ddp_header(raw);
  if (!header) {
    switch (header.error()) {
      case DdpError::ddp_version_tagged:
        return reject(terminate::kTaggedVersion, "a tagged segment of another DDP version");
      case DdpError::ddp_version_untagged:
        return reject(terminate::kUntaggedVersion, "an untagged segment of another DDP version");
      case DdpError::rdmap_version:
        return reject(terminate::kRdmapVersion, "a message of another RDMAP version");
      case DdpError::truncated:
        return reject(terminate::kFpduLength, "an FPDU too short for its DDP header");
    }
  }
  header_ = *header;
  payload_ = payload_left_ = static_cast<uint32_t>(ulpdu_ - raw.size());
  const bool good = header_.tagged ? begin_tagged(header_, payload_) : begin_untagged(header_, payload_);
  if (!good) return false;
  phase_ = payload_left_ > 0 ? Phase::payload : Phase::trailer;
  return true;
}

bool ReceivePath::take_payload() {
  const auto part = static_cast<uint32_t>(std::min<size_t>(staged(), payload_left_));
  if (part > 0) {
    std::memcpy(place_, stage(), part);
    state_.traffic.copied_bytes += part;
    staged_begin_ += part;
    placed(part);
  }
  if (payload_left_ > 0) return false;
  phase_ = Phase::trailer;
  return true;
}

bool ReceivePath::take_trailer() {
  const size_t size = fpdu_trailer(ulpdu_);
  if (staged() < size) return false;
  if (state_.crc) {
    crc_.update({stage(), size - kFpduCrcSize});
    const auto wire = crc_.wire();
    if (std::memcmp(wire.data(), stage() + size - kFpduCrcSize, kFpduCrcSize) != 0) {
      return reject(terminate::kCrc, "an FPDU whose CRC does not match");
    }
  }
  staged_begin_ += size;
  ++state_.traffic.fpdus_received;
  phase_ = Phase::header;
  finish();
  first_ = false;
  state_.may_send = true;
  return true;
}

void ReceivePath::fail(TerminateCode code, const char* why) {
  if (state_.fault) return;
  Fault& fault = state_.fault.emplace();
  fault.code = code;
  fault.why = why;
  fault.header = raw_;
  fault.header_size = raw_size_;
  fault.segment_length = ulpdu_;
}

bool ReceivePath::reject(TerminateCode code, const char* why) {
  fail(code, why);
  return false;
}

}  // namespace smbdirect::workers::fabric::iwarp
