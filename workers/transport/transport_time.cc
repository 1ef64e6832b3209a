// SPDX-License-Identifier: MIT
// Transport, time: when to look again, and what ends a connection because it does not come.
#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>

#include "workers/transport/transport.h"

namespace smbdirect::workers {

namespace {

constexpr uint64_t kLookMs = 250;

}  // namespace

/// A deadline that nothing can be done about now is not armed: room for SENDs comes with a completion, which
/// pumps.
void Transport::arm_timer() {
  const uint64_t now = uv_now(&loop_);
  // An answer that is awaited is often to what is still on its way: its time counts from the last look that
  // saw it move.
  const bool awaits = engine_.awaits_answer();
  if (awaits || owed()) {
    look_at_ = std::min(look_at_, smb_direct::after(now, awaits ? kLookMs : config_.progress_timeout_ms / 4));
  }
  const uint64_t deadline = std::min(engine_.next_deadline(can_send()), look_at_);
  if (deadline >= armed_for_) return;  // it fires early and looks again
  armed_for_ = deadline;
  timer_.start(deadline > now ? deadline - now : 1);  // the loop polls in between, whatever is due
}

void Transport::on_timer() {
  armed_for_ = ProgressWatch::kNever;
  if (closing_) return;
  const uint64_t now = uv_now(&loop_);
  if (now >= look_at_) {
    look_at_progress();
    look_at_ = ProgressWatch::kNever;
    if (const auto what = watch_.overdue(now)) return overdue(*what);
  }
  if (const auto ticked = engine_.tick(now); !ticked) return fault(ticked.error());
  pump();
}

/// Whether the peer may owe something, by what is known here.
bool Transport::owed() const {
  return sends_posted_ != sends_done_ || rdma_.reads_outstanding() + rdma_.writes_outstanding() > 0 ||
         engine_.receiving();
}

/// The fabric is asked, which may ask the kernel: not for each message.
void Transport::look_at_progress() {
  const uint64_t now = uv_now(&loop_);
  const fabric::Progress progress = endpoint_->progress();
  // Without a credit the rest of a message cannot come.
  const bool half = progress.receiving || (engine_.receiving() && engine_.credits().granted > 0);
  for (ProgressWatch* watch : {&watch_, &stuck_}) {
    watch->observe(Owed::read_data, progress.reading, progress.read, now);
    watch->observe(Owed::taking, progress.sending, progress.acknowledged, now);
    watch->observe(Owed::message, half, progress.received, now);
  }
  const uint64_t moved = progress.read + progress.received + progress.acknowledged;
  if (std::exchange(moved_, moved) != moved) engine_.peer_moves(now);
}

uint64_t Transport::stuck_since() {
  if (closing_ || endpoint_ == nullptr) return ProgressWatch::kNever;
  look_at_progress();
  return stuck_.since();
}

void Transport::overdue(Owed what) {
  record(EventKind::fault, static_cast<uint64_t>(what), uint64_t{rdma_.reads_outstanding()});
  begin_closing(std::string(owed_text(what)) + " for " + std::to_string(config_.progress_timeout_ms) + " ms",
                false);
  owner_.on_fault(close_reason_);
  endpoint_->abort();
}

}  // namespace smbdirect::workers
