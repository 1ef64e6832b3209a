// SPDX-License-Identifier: MIT
#include "workers/smbd/previous_sessions.h"

#include <algorithm>
#include <utility>

#include "workers/smbd/direct_operation.h"

namespace smbdirect::workers {

PreviousSessions::~PreviousSessions() {
  for (const uint64_t session : named_) resources_->ending->end(session);
}

void PreviousSessions::stop() {
  told_ = nullptr;
  waiting_.clear();
  if (again_) again_->stop();
}

bool PreviousSessions::holds_up(uint64_t session) const {
  if (session == 0 || resources_ == nullptr) return false;
  return resources_->threads.any_of([session](const FileWork& work) {
    const auto* operation = dynamic_cast<const DirectOperation*>(&work);
    return operation != nullptr && operation->write() && operation->request().session_id == session;
  });
}

void PreviousSessions::begin(uint64_t session) {
  if (session == 0 || resources_ == nullptr) return;
  named_.push_back(session);
  resources_->ending->begin(session);
}

void PreviousSessions::answered(uint64_t session) {
  const auto at = std::ranges::find(named_, session);
  if (at == named_.end()) return;
  named_.erase(at);
  resources_->ending->end(session);
}

void PreviousSessions::wait(std::unique_ptr<QueuedRequest> request) {
  if (waiting_.empty()) waits_since_ms_ = context_.transport.now();
  waiting_.push_back(std::move(request));
  if (!again_) again_ = std::make_unique<shm::Timer>(resources_->loop, [this] { look(); });
  look_ms_ = kFirstLookMs;
  again_->start(look_ms_);
}

std::unique_ptr<QueuedRequest> PreviousSessions::next() {
  const auto at = std::ranges::find_if(
      waiting_, [this](const auto& request) { return !holds_up(request->previous_session); });
  if (at == waiting_.end()) return nullptr;
  auto request = std::move(*at);
  waiting_.erase(at);
  return request;
}

void PreviousSessions::look() {
  look_ms_ = std::min(2 * look_ms_, kLastLookMs);
  const bool some = std::ranges::any_of(
      waiting_, [this](const auto& request) { return !holds_up(request->previous_session); });
  if (!waiting_.empty()) again_->start(look_ms_);
  if (some) {
    if (told_) told_();
    return;
  }
  const uint64_t now = context_.transport.now();
  if (now - waits_since_ms_ >= kSayAfterMs)
    lines_.say(link_.connection(), now, "the log-on waits for a WRITE of the session that it ends",
               ", which has not returned from its file system; if that hangs, mend it");
}

}  // namespace smbdirect::workers
