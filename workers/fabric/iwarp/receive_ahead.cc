// SPDX-License-Identifier: MIT
// Reading ahead inside one READ. The segments of its Read Response should follow one another, all but the
// last as large as the first, to consecutive places in the sink. Should they not, then the bytes read on
// that guess lie in the sink, in the wrong place but inside memory that this READ is still to fill: they
// are collected into staging and parsed from there.
#include <algorithm>
#include <cstring>
#include <utility>

#include "workers/fabric/iwarp/receive_path.h"

namespace smbdirect::workers::fabric::iwarp {

size_t ReceivePath::plan(size_t count) {
  if (kind_ != Kind::read_response || header_.last || payload_ < kLeastPlanned) return count;
  if (steps_ == nullptr) steps_ = std::make_unique_for_overwrite<Step[]>(kMostSteps);
  const OutstandingRead& read = state_.reads_outstanding.front();
  size_t ahead = payload_left_;
  uint32_t at = read.received + payload_;
  step_head_ = fpdu_trailer(ulpdu_) + kTaggedHead;
  while (at < read.length && steps_used_ < kMostSteps && ahead < kMostAhead) {
    Step& step = steps_[steps_used_++];
    step.place = read.memory + at;
    step.payload = std::min(payload_, read.length - at);
    at += step.payload;
    ahead += step.payload;
    vectors_[count++] = {step.head.data(), step_head_};
    vectors_[count++] = {step.place, step.payload};
  }
  return count;
}

void ReceivePath::follow_plan(size_t n) {
  const size_t steps = std::exchange(steps_used_, 0);
  for (size_t i = 0; i < steps && n > 0; ++i) {
    const Step& step = steps_[i];
    const size_t head = std::min(n, step_head_);
    std::memcpy(staging_.get(), step.head.data(), head);  // nothing else is staged here
    staged_begin_ = 0;
    staged_end_ = head;
    n -= head;
    parse();
    if (state_.fault || n == 0) return;
    const bool as_planned = staged() == 0 && phase_ == Phase::payload && kind_ == Kind::read_response &&
                            place_ == step.place && payload_ == step.payload;
    if (!as_planned) return leave_plan(i, steps, n);
    const size_t part = std::min<size_t>(n, step.payload);
    placed(part);
    n -= part;
  }
  staged_begin_ = kPlanRoom;
  staged_end_ = kPlanRoom + n;
  parse();
}

// Collects the n bytes that came after step i's head. A fresh buffer: the last of them stand in the old
// one. Only a peer that mixes other messages into its Read Responses gets here.
void ReceivePath::leave_plan(size_t i, size_t steps, size_t n) {
  staging_size_ = kStagingSize + staged() + n;
  auto fresh = std::make_unique_for_overwrite<std::byte[]>(staging_size_);
  size_t size = staged();
  std::memcpy(fresh.get(), stage(), size);
  const auto collect = [&](const std::byte* from, size_t most) {
    const size_t part = std::min(n, most);
    std::memcpy(fresh.get() + size, from, part);
    size += part;
    n -= part;
  };
  collect(steps_[i].place, steps_[i].payload);
  for (size_t next = i + 1; next < steps; ++next) {
    collect(steps_[next].head.data(), step_head_);
    collect(steps_[next].place, steps_[next].payload);
  }
  collect(staging_.get() + kPlanRoom, n);
  staging_ = std::move(fresh);
  state_.traffic.copied_bytes += size;
  staged_begin_ = 0;
  staged_end_ = size;
  parse();
}

}  // namespace smbdirect::workers::fabric::iwarp
