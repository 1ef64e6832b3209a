// SPDX-License-Identifier: MIT
// A connection at work: posting, and what completes.
#include "workers/fabric/verbs/endpoint.h"

#include <algorithm>
#include <utility>

namespace smbdirect::workers::fabric::verbs {

VerbsEndpoint::VerbsEndpoint(uv_loop_t& loop, DeviceTable& devices, std::unique_ptr<CmLink> link, Side side,
                             const Options& options, Handler& handler, const EndTimes& times)
    : loop_(loop),
      devices_(devices),
      side_(side),
      options_(options),
      handler_(handler),
      times_(times),
      attributes_{.max_send_work = options.max_send_work,
                  .max_receive_work = options.max_receive_work,
                  .max_send_sge = kMaxPieces,
                  .max_outbound_reads = options.max_outbound_reads},
      description_("verbs " + link->description()),
      sends_(options.max_send_work, options.max_outbound_reads),
      receives_(options.max_receive_work),
      link_(std::move(link)),
      timer_(loop, [this] { deadline_passed(); }),
      later_(loop, [this] { tell_closed(); }) {}

VerbsEndpoint::~VerbsEndpoint() { release(); }

// --- posting ---

std::expected<void, PostError> VerbsEndpoint::post_receive(uint64_t id, Sge into) {
  if (!open()) return std::unexpected(PostError::closed);
  return receives_.add(id, into, domain_);
}

std::expected<void, PostError> VerbsEndpoint::post_message(const Message& message,
                                                           std::span<const Sge> pieces) {
  if (!open()) return std::unexpected(PostError::closed);
  if (phase_ != Phase::established) return std::unexpected(PostError::queue_full);
  return sends_.add(message, pieces, *domain_);
}

std::expected<void, PostError> VerbsEndpoint::post_send(uint64_t id, std::span<const Sge> pieces,
                                                        const uint32_t* invalidate) {
  const uint32_t token = invalidate == nullptr ? 0 : *invalidate;
  return post_message(
      {.id = id, .op = Op::send, .invalidate = invalidate != nullptr, .to = {.offset = 0, .token = token}},
      pieces);
}

std::expected<void, PostError> VerbsEndpoint::post_write(uint64_t id, std::span<const Sge> pieces,
                                                         RemoteMemory to) {
  return post_message({.id = id, .op = Op::rdma_write, .invalidate = false, .to = to}, pieces);
}

std::expected<void, PostError> VerbsEndpoint::post_read(uint64_t id, Sge into, RemoteMemory from) {
  if (!open()) return std::unexpected(PostError::closed);
  if (phase_ != Phase::established) return std::unexpected(PostError::queue_full);
  return sends_.add_read(id, into, from, *domain_);
}

void VerbsEndpoint::ring() {
  sends_.release_reads();
  post_queued();
}

uint32_t VerbsEndpoint::send_room() const { return phase_ == Phase::established ? sends_.room() : 0; }

Progress VerbsEndpoint::progress() const {
  if (phase_ != Phase::established && phase_ != Phase::finishing) return {};
  return {.reading = sends_.reading(),
          .receiving = false,  // the device's affair
          .sending = sends_.sending(),
          .read = sends_.parts_read(),
          .received = traffic_.receives + sends_.parts_read(),
          .acknowledged = traffic_.sends + traffic_.writes};
}

void VerbsEndpoint::trim() {
  sends_.trim();
  receives_.trim();
  if (done_.empty() && std::exchange(done_peak_, 0) * 4 <= done_.capacity()) done_ = decltype(done_)();
}

void VerbsEndpoint::post_queued() {
  if (qp_ == nullptr || phase_ < Phase::connecting || phase_ > Phase::finishing) return;
  // Receives first: a SEND may grant them.
  if (const auto posted = receives_.post(*seat_, *qp_, *domain_); !posted) {
    posting_failed(posted.error().text());
    return;
  }
  if (const int error = sends_.post(*seat_, *qp_); error != 0) {
    posting_failed(shm::Error{"ibv_post_send", error}.text());
  }
}

// --- memory for the peer ---

std::expected<RemoteMemory, PostError> VerbsEndpoint::expose(std::span<std::byte> memory, Access access) {
  // A server exposes nothing; its queue pair would not let the peer in either.
  if (!open() || side_ == Side::accepting) return std::unexpected(PostError::closed);
  if (domain_ == nullptr) return std::unexpected(PostError::queue_full);
  const int rights = access == Access::remote_write ? IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE
                                                    : IBV_ACCESS_REMOTE_READ;
  auto mr = domain_->add_memory(memory, rights);
  if (!mr) return std::unexpected(PostError::not_registered);
  const uint32_t token = (*mr)->rkey;
  exposed_[token] = std::move(*mr);
  return RemoteMemory{.offset = reinterpret_cast<uint64_t>(memory.data()), .token = token};
}

void VerbsEndpoint::unexpose(uint32_t token) { exposed_.erase(token); }

// --- completions ---

void VerbsEndpoint::on_work(const WorkId& id, const ibv_wc& completion) {
  const bool success = completion.status == IBV_WC_SUCCESS;
  if (!success) work_failed(id, completion);
  const char* wrong = nullptr;
  if (id.kind == WorkKind::receive) {
    const auto user_id = receives_.complete(id.sequence);
    if (!user_id) {
      wrong = user_id.error();
    } else if (success) {
      const bool invalidated = (completion.wc_flags & IBV_WC_WITH_INV) != 0;
      done_.push_back({.id = *user_id,
                       .op = Op::receive,
                       .bytes = completion.byte_len,
                       .invalidated = invalidated,
                       .invalidated_token = invalidated ? completion.invalidated_rkey : 0});
      if (invalidated) exposed_.erase(completion.invalidated_rkey);
      ++traffic_.receives;
    }
  } else if (const auto taken = sends_.complete(id, success, traffic_, done_); !taken) {
    wrong = taken.error();
  }
  // After an error the order of what comes back is not worth an argument.
  if (wrong != nullptr && phase_ < Phase::draining) lost(CloseCause::protocol_error, wrong);
}

void VerbsEndpoint::on_round_end() {
  post_queued();  // READs whose turn has come
  deliver();
  proceed();
}

void VerbsEndpoint::deliver() {
  // A receive may be reported before the connection manager has told us: whatever comes first counts.
  if (!done_.empty() && phase_ == Phase::connecting) establish();
  sends_.delivered();
  done_peak_ = std::max(done_peak_, done_.size());
  if (!done_.empty() && !mute_ && phase_ != Phase::closed) handler_.on_completions(done_);
  done_.clear();
}

}  // namespace smbdirect::workers::fabric::verbs
