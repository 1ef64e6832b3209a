// SPDX-License-Identifier: MIT
#include "workers/smbd/request_path.h"

#include <algorithm>
#include <cstring>

namespace smbdirect::workers {

namespace {

// Pieces on their way to smbd: one that reads more slowly than its client writes makes the client wait.
constexpr size_t kMostQueued = 4096;
constexpr uint64_t kPatienceMs = 200;

}  // namespace

void RequestPath::on_fragment(const Fragment& fragment) {
  if (broken_) return;
  Item item{fragment.buffer->share(), fragment.data, fragment.total, fragment.first, fragment.last};
  if (stalled_since_ || !consume(item)) {
    if (!broken_) inbox_.push(std::move(item));
  }
}

void RequestPath::resume() {
  if (broken_) return;
  queue_.fetch();
  if (mode_ != Mode::stream) {
    queue_.advance();
    // What has moved on was perhaps what there was no memory beside, and nothing else would wake it.
    queue_.fetch();
  }
  if (!stalled_since_) return;
  const uint64_t now = context_.transport.now();
  if (holds_nothing() && now - std::max(*stalled_since_, context_.answered_ms) >= kPatienceMs) {
    context_.admission.forget();
  }
  if (!go_on()) return;
  stalled_since_.reset();
  context_.memory.clear_shortage();
  context_.transport.record(EventKind::resumed, context_.admission.reserved(), 0);
  context_.transport.hold_grants(false);
}

/// Takes what has waited, in order. False: something has no room yet, or the session is over.
bool RequestPath::go_on() {
  if (ready_ && !push_gathered()) return false;
  while (!inbox_.empty()) {
    if (!consume(inbox_.front())) return false;
    (void)inbox_.pop();
    if (ready_) return false;  // gathered whole, and stalled there
  }
  return true;
}

void RequestPath::on_read_done() {
  queue_.on_read_done();
  if (mode_ != Mode::stream) queue_.advance();
  queue_.fetch();
}

void RequestPath::on_direct_ended() {
  if (broken_) return;
  resume();
  context_.events.on_queued();
  context_.transport.pump();
}

void RequestPath::on_previous_ended() {
  if (broken_) return;
  while (auto entry = previous_.next()) queue_.push(std::move(entry));
  on_direct_ended();
}

bool RequestPath::unfinished() const { return mode_ == Mode::stream || queue_.mid_pdu() || !outbox_.empty(); }

/// Nothing is held for this connection but what every connection has: it waits for answers that may be long
/// in coming, or for nothing.
bool RequestPath::holds_nothing() const { return context_.transport.idle() && sends_nothing(); }

/// The same, of what the client sends.
bool RequestPath::sends_nothing() const {
  return outbox_.empty() && queue_.empty() && queue_.none_aside() && direct_.idle() && previous_.none_waits();
}

void RequestPath::stall(uint64_t wanted) {
  if (stalled_since_) return;
  stalled_since_ = context_.transport.now();
  context_.transport.record(EventKind::stalled, context_.admission.reserved(), wanted);
  context_.transport.hold_grants(true);
}

void RequestPath::broken(std::string why) {
  broken_ = true;
  inbox_.clear();
  context_.events.on_broken(std::move(why));
}

void RequestPath::broken(smb2::Violation violation) {
  broken("SMB2 request: " + std::string(violation_text(violation)));
}

/// Takes the item's bytes. False when it must wait (stalled) or the session is over; what was not taken
/// stays in the item.
bool RequestPath::consume(Item& item) {
  if (item.first) {
    item.first = false;
    mode_ = Mode::prefix;
    total_ = item.total;
    prefix_have_ = 0;
  }
  if (mode_ == Mode::prefix) {
    const size_t need = std::min<uint64_t>(total_, smb2::kPrefixBytes);
    if (prefix_have_ == 0 && item.data.size() >= need) {
      if (!decide(item.data.first(need))) return false;
    } else {
      const size_t here = std::min(need - prefix_have_, item.data.size());
      std::memcpy(prefix_.data() + prefix_have_, item.data.data(), here);
      prefix_have_ += here;
      item.data = item.data.subspan(here);
      context_.transport.own_counters().copied_bytes += here;
      if (prefix_have_ < need) return true;
      const auto prefix = std::span<const std::byte>(prefix_).first(need);
      if (!decide(prefix)) return false;
      if (mode_ == Mode::stream) {
        outbox_.push_copy(prefix);
      } else {
        gather(prefix);
      }
    }
  }
  if (mode_ == Mode::stream) {
    outbox_.push(item.buffer.share(), item.data);
  } else {
    gather(item.data);
  }
  if (item.last) {
    if (mode_ == Mode::stream) context_.translator.forwarded(streaming_, context_.transport.clock_us());
    if (mode_ == Mode::gather) finish_gather();
    mode_ = Mode::prefix;
    if (!broken_) queue_.advance();
  }
  return !broken_;
}

/// The route of the PDU that begins with `prefix`. Changes nothing when it returns false for a stall.
bool RequestPath::decide(std::span<const std::byte> prefix) {
  auto info = context_.translator.classify(prefix, total_);
  if (!info) {
    broken(info.error());
    return false;
  }
  counts_on_ = counts_on_ || files_.counts_on(*info);
  if (counts_on_) info->holds = smb2::Holds::file;
  if (!negotiated_ && (info->opaque || info->command != smb2::Command::negotiate)) {
    broken("the first SMB2 request is not NEGOTIATE");
    return false;
  }
  if (!context_.set_up && !allowed_before_session(*info)) return false;
  if (outbox_.pieces() >= kMostQueued) {
    context_.memory.note(Room::own);
    stall(0);
    return false;
  }
  if (!admit(info->reply_bytes)) return false;
  if (info->route == smb2::RequestInfo::Route::gather) {
    if (!begin_gather()) return false;
    info_ = *info;
  } else if (info->may_pass && info->holds == smb2::Holds::nothing && gather_direct(prefix)) {
    info_ = *info;
  } else {
    if (!decide_stream(*info, prefix)) return false;
  }
  if (info->opaque) {
    area_.passed_by(shm::AreaState::is_encrypted);
    files_.passed_by(shm::DirectState::is_encrypted);
  }
  if (info->signed_io) {
    area_.signed_io(info->length);
    files_.passed_by(shm::DirectState::is_signed);
  }
  counts_on_ = false;
  ++context_.transport.own_counters().smb_requests;
  context_.transport.record(EventKind::request, info->opaque ? 0xFFFF : static_cast<uint64_t>(info->command),
                            total_);
  return true;
}

/// Cut through, unless something before it still waits and it may not pass.
bool RequestPath::decide_stream(const smb2::RequestInfo& info, std::span<const std::byte> prefix) {
  const bool echo = info.command == smb2::Command::echo;
  const bool passes = queue_.empty() || (info.may_pass && queue_.may_pass(echo ? nullptr : &info.file_id));
  if (!passes || direct_.holds_up(info.holds, info.file_id, prefix) ||
      previous_.holds_up(info.previous_session)) {
    if (total_ > context_.slabs.slab_size()) {
      context_.memory.note(Room::own);
      stall(total_);  // not worth the memory: the queue drains soon
      return false;
    }
    if (!begin_gather()) return false;
    info_ = info;
    return true;
  }
  const auto noted = context_.translator.note(info);
  if (!noted) {
    broken(noted.error());
    return false;
  }
  streaming_ = *noted;
  previous_.begin(info.previous_session);
  context_.admission.reserve(info.reply_bytes);
  info_ = info;
  mode_ = Mode::stream;
  queue_.tell_ids();
  outbox_.push_copy(smb2::encode_nbt(static_cast<uint32_t>(total_)));
  return true;
}

/// Until smbd has let the client in, it may say little, and have nothing done with its memory.
bool RequestPath::allowed_before_session(const smb2::RequestInfo& info) {
  if (total_ > WorkerMemory::kBeforeSession) {
    broken("the client sent a request of " + std::to_string(total_) + " bytes before it had a session");
  } else if (info.rdma_channel) {
    broken("the client sent an RDMA channel READ or WRITE before it had a session");
  }
  return !broken_;
}

bool RequestPath::admit(uint64_t reply_bytes) {
  const Room room = context_.admission.room(reply_bytes, holds_nothing());
  context_.memory.note(room);
  if (room == Room::yes) return true;
  stall(reply_bytes);
  return false;
}

bool RequestPath::begin_gather() {
  const bool only = sends_nothing();
  SlabRef into = total_ <= context_.slabs.slab_size()
                     ? context_.memory.slab(only)
                     : context_.memory.block(static_cast<uint32_t>(total_), only);
  if (!into) {
    stall(total_);
    return false;
  }
  gather_into(std::move(into));
  return true;
}

/// A READ or WRITE that may be done here, when its turn comes. False: it goes as always.
bool RequestPath::gather_direct(std::span<const std::byte> prefix) {
  if (total_ > context_.slabs.slab_size()) return false;
  auto wanted = direct_.wanted(prefix, total_);
  if (!wanted) return false;
  SlabRef into = context_.memory.slab(sends_nothing());
  if (!into) return false;
  gather_into(std::move(into));
  wanted_ = std::move(wanted);
  return true;
}

void RequestPath::gather_into(SlabRef slab) {
  wanted_.reset();
  gathered_ = std::move(slab);
  gathered_have_ = 0;
  mode_ = Mode::gather;
}

void RequestPath::gather(std::span<const std::byte> bytes) {
  if (bytes.empty()) return;
  std::memcpy(gathered_.bytes().data() + gathered_have_, bytes.data(), bytes.size());
  gathered_have_ += bytes.size();
  context_.transport.own_counters().copied_bytes += bytes.size();
}

void RequestPath::finish_gather() {
  const auto pdu = gathered_.bytes().first(gathered_have_);
  if (!info_.opaque && info_.command == smb2::Command::negotiate) {
    const auto negotiate = smb2::parse_negotiate_request(pdu);
    if (!negotiate) return broken(negotiate.error());
    if (!negotiated_) {
      negotiated_ = true;
      context_.events.on_negotiate(*negotiate, pdu);
      if (broken_) return;
    }
  }
  auto entry = queue_.blank();
  if (info_.route == smb2::RequestInfo::Route::stream) {
    // Gathered only to keep its place in the order, or because it may be done here.
    entry->request.pieces.push_back({.bytes = pdu});
    entry->request.total = pdu.size();
    entry->request.reply_bytes = info_.reply_bytes;
    const auto noted = context_.translator.note(info_);
    if (!noted) return broken(noted.error());
    entry->request.ticket = *noted;
    entry->previous_session = info_.previous_session;
    previous_.begin(info_.previous_session);
    entry->direct = std::move(wanted_);
  } else if (const auto rewritten = translate(pdu, *entry); !rewritten) {
    return broken(rewritten.error());
  } else if (info_.rdma_channel && info_.holds == smb2::Holds::file) {
    context_.translator.hold_file(entry->request.ticket);
  }
  entry->may_be_passed = info_.rdma_channel && info_.command == smb2::Command::write;
  entry->file_id = info_.file_id;
  entry->holds = info_.holds;
  entry->pdu = std::move(gathered_);
  entry->sent = gathered_have_;
  ready_ = std::move(entry);
  (void)push_gathered();
}

/// By the area where it may, else as smbd always gets it: also what may be done here, until its turn comes.
std::expected<void, smb2::Violation> RequestPath::translate(std::span<std::byte> pdu,
                                                            RequestQueue::Entry& entry) {
  smb2::RewrittenRequest& out = entry.request;
  if (!info_.rdma_channel) return context_.translator.request(pdu, out);
  auto wanted = info_.holds == smb2::Holds::nothing ? direct_.wanted(pdu, pdu.size()) : std::nullopt;
  if (wanted) {
    if (wanted->command == smb2::Command::read)
      entry.memory = smb2::parse_rdma_channel(wanted->command, pdu).info;
    entry.direct = std::move(wanted);
    return context_.translator.request(pdu, out);
  }
  const auto io =
      gathered_.bytes().size() >= smb2::kCarrierBytes ? context_.translator.area_io(pdu) : std::nullopt;
  const auto place = io ? area_.place_for(*io) : std::nullopt;
  if (!place) return context_.translator.request(pdu, out);
  const auto carried = context_.translator.request_by_area(pdu, *place, out);
  if (carried && *carried) return {};
  area_.settled();
  area_.give_back(place->offset, io->length);
  if (!carried) return std::unexpected(carried.error());
  return context_.translator.request(pdu, out);
}

/// What it takes is known only now, if it is a compound. False: it waits for room (stalled).
bool RequestPath::push_gathered() {
  if (!admit(ready_->request.reply_bytes)) return false;
  context_.admission.reserve(ready_->request.reply_bytes);
  if (queue_.done_at_once(ready_)) {
    if (context_.translator.ledger().due() && !queue_.mid_pdu()) queue_.tell_ids();
    return true;
  }
  if (previous_.holds_up(ready_->previous_session)) {
    previous_.wait(std::move(ready_));
    return true;
  }
  queue_.push(std::move(ready_));
  queue_.fetch();
  if (mode_ != Mode::stream) queue_.advance();  // nothing else may come that would
  return true;
}

}  // namespace smbdirect::workers
