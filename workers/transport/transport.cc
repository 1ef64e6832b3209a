// SPDX-License-Identifier: MIT
#include "workers/transport/transport.h"

#include <algorithm>
#include <cassert>
#include <cstring>
#include <utility>

namespace smbdirect::workers {

namespace {

constexpr uint32_t kHeaderBytes = 32;
constexpr uint64_t kMoreThanATrickle = 64 * 1024;

bool is_timeout(smb_direct::Fault fault) {
  return fault == smb_direct::Fault::negotiate_timeout || fault == smb_direct::Fault::send_credit_timeout ||
         fault == smb_direct::Fault::keepalive_timeout;
}

}  // namespace

Transport::Transport(uv_loop_t& loop, const Config& config, Owner& owner)
    : loop_(loop),
      owner_(owner),
      config_(config),
      engine_(config.role, config.limits, uv_now(&loop)),
      timer_(loop, [this] { on_timer(); }),
      watch_(config.progress_timeout_ms),
      stuck_(ProgressWatch::kNever, kMoreThanATrickle),
      // Two at least: the engine keeps one beyond the target for the last credit (MS-SMBD 3.1.5.9).
      receive_quota_(
          uint64_t{std::max<uint16_t>(2, config.limits.receive_credit_max)} * config.receive_pool.slab_size(),
          &config.budget),
      messages_(config.budget),
      rdma_(config.budget) {}

Transport::~Transport() {
  // The endpoint first: it must stop touching our memory before the references go.
  endpoint_.reset();
}

bool Transport::start(const MakeEndpoint& make_endpoint) {
  headers_ = config_.header_pool.acquire_forced(config_.budget);
  endpoint_ = make_endpoint(*this);
  if (endpoint_ == nullptr || !headers_) return false;
  post_receives();
  arm_timer();
  endpoint_->start();
  return true;
}

// --- queueing ---

bool Transport::begin_message(uint64_t total, std::span<const uint32_t> invalidate) {
  if (total == 0 || total > engine_.agreed().max_fragmented_send_size) return false;
  if (invalidate.size() > total) return false;
  for (const uint32_t token : invalidate) record(EventKind::invalidate, token, messages_.size());
  messages_.begin(total, rdma_.writes_requested(), invalidate);
  return true;
}

void Transport::append(SlabRef owner, std::span<const std::byte> bytes) {
  messages_.append(std::move(owner), bytes);
}

bool Transport::idle() const { return messages_.empty() && rdma_.all_posted(); }

void Transport::rdma_write(SlabRef owner, std::span<const std::byte> bytes, fabric::RemoteMemory to) {
  record(EventKind::rdma_write, bytes.size(), to.token);
  rdma_.write(std::move(owner), bytes, to);
}

void Transport::rdma_read(std::span<std::byte> into, uint32_t key, fabric::RemoteMemory from,
                          uint64_t cookie) {
  record(EventKind::rdma_read, into.size(), from.token);
  rdma_.read(into, key, from, cookie);
}

std::optional<fabric::RemoteMemory> Transport::expose(std::span<std::byte> memory, fabric::Access access) {
  if (closing_) return std::nullopt;
  const auto exposed = endpoint_->expose(memory, access);
  return exposed ? std::optional(*exposed) : std::nullopt;
}

void Transport::unexpose(uint32_t token) {
  if (endpoint_ != nullptr) endpoint_->unexpose(token);
}

void Transport::hold_grants(bool held) { engine_.hold_grants(held); }

// --- posting ---

void Transport::pump() {
  if (pumping_ || closing_ || endpoint_ == nullptr) return;
  pumping_ = true;
  post_receives();
  if (established_) {
    if (const auto posted = rdma_.post(*endpoint_, clock_us()); !posted) refused(posted.error());
    if (!closing_) post_messages();
  }
  pumping_ = false;
  if (closing_) return;
  endpoint_->ring();
  if (disconnect_when_sent_ && idle()) {
    closing_ = true;
    endpoint_->disconnect();
    return;
  }
  arm_timer();
}

void Transport::hurry() {
  pump();
  if (!closing_ && endpoint_ != nullptr) endpoint_->ring_now();
}

void Transport::post_receives() {
  uint32_t posted = 0;
  const uint32_t wanted = engine_.receives_wanted();
  for (; posted < wanted; ++posted) {
    // The last receive is posted whatever the budget says (but only one beyond the quota): without it
    // the peer could not even answer a keepalive.
    const bool must = receives_.empty() && receive_quota_.used() <= receive_quota_.limit();
    SlabRef slab = must ? config_.receive_pool.acquire_forced(receive_quota_)
                        : config_.receive_pool.acquire(receive_quota_);
    if (!slab) break;
    const fabric::Sge into{slab.bytes().data(), static_cast<uint32_t>(slab.bytes().size()), slab.key()};
    if (!endpoint_->post_receive(0, into)) break;
    receives_.push(std::move(slab));
  }
  if (posted > 0) engine_.receives_posted(posted);
}

/// Room comes again; a device that registers no more memory does not take this memory later either.
void Transport::refused(fabric::PostError error) {
  if (error != fabric::PostError::not_registered) return;
  begin_closing("the RDMA device registers no more memory (is the limit of locked memory too low?)", false);
  owner_.on_fault(close_reason_);
  endpoint_->abort();
}

bool Transport::can_send() const {
  const uint64_t slots = headers_.bytes().size() / kHeaderBytes;
  return endpoint_->send_room() > 0 && sends_posted_ - sends_done_ < slots;
}

void Transport::post_messages() {
  while (can_send() && post_fragment()) {
  }
}

bool Transport::post_fragment() {
  MessageQueue::Message* message = messages_.front();
  if (message != nullptr && !message->begun) {
    if (rdma_.writes_posted() < message->barrier) {
      message = nullptr;  // its RDMA WRITEs come first; credits may still be granted
    } else if (!engine_.begin(message->total)) {
      abort("a message longer than the peer accepts");
      return false;
    } else {
      message->begun = true;
    }
  }
  const uint32_t most_pieces = std::min(kMaxSge, endpoint_->attributes().max_send_sge) - 1;  // and a header
  const auto out = message == nullptr
                       ? engine_.next(0, uv_now(&loop_), UINT32_MAX)
                       : engine_.next(messages_.ready(), uv_now(&loop_), messages_.fragment_cap(most_pieces));
  if (!out) return false;
  post_send(*out);
  return !closing_;
}

void Transport::post_send(const smb_direct::Outgoing& out) {
  const uint64_t slots = headers_.bytes().size() / kHeaderBytes;
  const auto header = headers_.bytes().subspan((sends_posted_ % slots) * kHeaderBytes, out.header_size);
  std::memcpy(header.data(), out.header.data(), out.header_size);

  std::array<fabric::Sge, kMaxSge> sges;
  sges[0] = {header.data(), out.header_size, headers_.key()};
  const auto payload = messages_.take(out.payload, std::span(sges).subspan(1));
  if (payload.token) ++counters_.invalidates;
  const auto posted = endpoint_->post_send(0, std::span(sges).first(1 + payload.pieces),
                                           payload.token ? &*payload.token : nullptr);
  if (!posted) {
    abort("the fabric refused a SEND");  // send_room() said there was room
    return;
  }
  ++sends_posted_;
  counters_.credits_granted += out.credits_granted;
  ++(out.payload > 0 ? counters_.fragments_sent : counters_.empties_sent);
  counters_.bytes_inline_sent += out.payload;
  record(EventKind::sent, out.payload, engine_.credits().send);
  if (out.disconnect) {
    endpoint_->ring();
    begin_closing("negotiation refused", true);
    endpoint_->disconnect();
  }
}

void Transport::trim() {
  receives_.trim();
  messages_.trim();
  rdma_.trim();
  if (endpoint_ == nullptr || closing_) return;
  endpoint_->trim();
  // What was placed and not delivered yet counts as well.
  const fabric::Progress progress = endpoint_->progress();
  const uint64_t moved = progress.received + received_ + sends_posted_;
  if (std::exchange(trimmed_at_, moved) != moved) {
    buffers_clean_ = false;
    return;
  }
  if (buffers_clean_) return;
  buffers_clean_ = true;
  // The oldest receive may hold part of a message.
  for (size_t i = progress.receiving ? 1 : 0; i < receives_.size(); ++i) {
    receives_.at(i).discard();
  }
  if (sends_posted_ == sends_done_) headers_.discard();
}

// --- completions ---

void Transport::on_established() {
  established_ = true;
  ++counters_.connections;
  record(EventKind::established, static_cast<uint64_t>(config_.role),
         endpoint_->attributes().max_outbound_reads);
  pump();
}

void Transport::on_completions(std::span<const fabric::Completion> done) {
  for (const fabric::Completion& completion : done) {
    switch (completion.op) {
      case fabric::Op::send:
        messages_.sent();
        ++sends_done_;
        break;
      case fabric::Op::rdma_write: {
        took(shm::Operation::rdma_write, rdma_.write_posted_at());
        const uint32_t count = rdma_.write_done();
        if (!closing_) owner_.on_writes_done(count);
        break;
      }
      case fabric::Op::rdma_read: {
        took(shm::Operation::rdma_read, rdma_.read_posted_at());
        const uint64_t cookie = rdma_.read_done();
        record(EventKind::rdma_read_done, completion.bytes, rdma_.reads_outstanding());
        if (!closing_) owner_.on_read_done(cookie);
        break;
      }
      case fabric::Op::receive:
        received(completion);
        break;
    }
  }
  if (closing_) return;
  owner_.on_progress();
  pump();
}

void Transport::received(const fabric::Completion& completion) {
  SlabRef buffer = receives_.pop();
  ++received_;
  if (closing_) return;
  established_ = true;  // a first message may overtake the event that says so
  if (completion.invalidated) owner_.on_invalidated(completion.invalidated_token);
  const auto message = std::span<const std::byte>(buffer.bytes()).first(completion.bytes);
  const auto delivery = engine_.receive(message, uv_now(&loop_));
  if (!delivery) {
    fault(delivery.error());
    return;
  }
  counters_.credits_received += delivery->credits_granted;
  record(EventKind::received, message.size(), engine_.credits().send);
  switch (delivery->kind) {
    case smb_direct::Delivery::Kind::nothing:
      ++counters_.empties_received;
      break;
    case smb_direct::Delivery::Kind::negotiated:
      ++counters_.empties_received;
      record(EventKind::negotiated, engine_.agreed().max_send_size, engine_.agreed().max_receive_size);
      owner_.on_negotiated();
      break;
    case smb_direct::Delivery::Kind::fragment:
      ++counters_.fragments_received;
      counters_.bytes_inline_received += delivery->data.size();
      owner_.on_fragment({.data = delivery->data,
                          .buffer = &buffer,
                          .total = delivery->total,
                          .first = delivery->first,
                          .last = delivery->last});
      break;
  }
}

// --- the end ---

void Transport::begin_closing(std::string why, bool clean) {
  if (close_reason_.empty()) {
    close_reason_ = std::move(why);
    clean_ = clean;
  }
  closing_ = true;
}

void Transport::fault(smb_direct::Fault what) {
  record(EventKind::fault, static_cast<uint64_t>(what), static_cast<uint64_t>(engine_.phase()));
  begin_closing("SMB Direct: " + std::string(smb_direct::fault_text(what)), false);
  owner_.on_fault(close_reason_);
  close_endpoint(!is_timeout(what));
}

/// A peer that broke a rule is told by an orderly close; one that is silent would not hear it, and one that
/// owes us the data of RDMA READs could delay it.
void Transport::close_endpoint(bool orderly) {
  if (orderly && rdma_.reads_outstanding() == 0) {
    endpoint_->disconnect();
  } else {
    endpoint_->abort();
  }
}

void Transport::disconnect(std::string why) {
  if (closing_ || disconnect_when_sent_) return;
  close_reason_ = std::move(why);
  disconnect_when_sent_ = true;
  pump();
}

void Transport::fail(std::string why) {
  if (closing_) return;
  begin_closing(std::move(why), false);
  endpoint_->ring();
  close_endpoint(true);
}

void Transport::abort(std::string why) {
  begin_closing(std::move(why), false);
  if (endpoint_ != nullptr) endpoint_->abort();
}

void Transport::drop() {
  closing_ = true;
  timer_.stop();
  endpoint_.reset();
}

void Transport::on_closed(const fabric::Close& why) {
  const bool orderly = why.cause == fabric::CloseCause::local || why.cause == fabric::CloseCause::peer_closed;
  const bool ours = !close_reason_.empty();
  record(EventKind::closed, static_cast<uint64_t>(why.cause), messages_.size());
  closing_ = true;
  timer_.stop();
  const std::string text = ours ? close_reason_ : why.detail;
  owner_.on_closed(text, ours ? clean_ && orderly : orderly);
}

Counters Transport::counters() const {
  Counters all = counters_;
  if (endpoint_ == nullptr) return all;
  const fabric::Traffic& moved = endpoint_->traffic();
  const bool active = config_.role == smb_direct::Role::active;
  all.rdma_reads = active ? moved.peer_reads : moved.reads;
  all.rdma_read_bytes = active ? moved.peer_read_bytes : moved.read_bytes;
  all.rdma_writes = active ? moved.peer_writes : moved.writes;
  all.rdma_write_bytes = active ? moved.peer_write_bytes : moved.write_bytes;
  all.fpdus_sent = moved.fpdus_sent;
  all.fpdus_received = moved.fpdus_received;
  all.copied_bytes += moved.copied_bytes;
  return all;
}

}  // namespace smbdirect::workers
