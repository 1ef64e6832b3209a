// SPDX-License-Identifier: MIT
#include "workers/smbd/response_path.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "protocol/smb2/session_reply.h"

namespace smbdirect::workers {

ResponsePath::State ResponsePath::pump(int fd) {
  if (broken_) return State::broken;
  // What was read already and waited for memory, first: its end may be here.
  if (const auto stop = process()) return *stop;
  if (crowded()) return State::no_memory;
  return pump_stream(reader_, fd, *this, context_.transport.idle() && context_.memory.reply_floor());
}

std::optional<Exchange::State> ResponsePath::process() {
  waits_ = false;
  keepalives_ = 0;
  while (!crowded() && keepalives_ < kMostKeepalives && step()) {
  }
  if (broken_) return State::broken;
  if (keepalives_ == kMostKeepalives) return State::again;
  return waits_ || crowded() ? std::optional(State::no_memory) : std::nullopt;
}

/// A client that does not take what it is sent: small answers are many to a slab.
bool ResponsePath::crowded() const { return context_.transport.messages_queued() >= kMostQueued; }

bool ResponsePath::between_messages() const { return mode_ == Mode::length && reader_.available() == 0; }

void ResponsePath::stream_broken(std::string what) { broken("smbd's connection" + what); }

/// One step of the PDU in hand. False when more bytes are needed, or broken.
bool ResponsePath::step() {
  switch (mode_) {
    case Mode::length:
      return reader_.available() >= smb2::kNbtBytes && begin_pdu();
    case Mode::prefix:
      return reader_.available() >= std::min<uint64_t>(total_, smb2::kPrefixBytes) && plan_pdu();
    case Mode::pass:
      if (reader_.available() == 0) return false;
      return pass_some();
    case Mode::skip_to_data:
    case Mode::skip_rest:
    case Mode::swallow: {
      const size_t here = std::min<uint64_t>(left_, reader_.available());
      reader_.skip(here);
      left_ -= here;
      if (left_ > 0) return false;
      if (mode_ == Mode::skip_rest) return finish_placed();
      if (mode_ == Mode::swallow) {
        mode_ = Mode::length;
        return true;
      }
      mode_ = Mode::place;
      left_ = plan_.data_length;
      return true;
    }
    case Mode::place:
      return place_some();
    case Mode::gather:
      return gather_some();
  }
  return false;
}

bool ResponsePath::begin_pdu() {
  std::array<std::byte, smb2::kNbtBytes> scratch{};
  const auto word = reader_.peek(smb2::kNbtBytes, scratch);
  const auto next = smb2::parse_stream_word(std::span<const std::byte, smb2::kNbtBytes>(word));
  if (!next) {
    if (next.error() != smb2::Violation::nbt_refusal) return broken(next.error());
    return broken("smbd refused the connection (NBT type " + std::to_string(std::to_integer<int>(word[0])) +
                  "); check hosts allow and hosts deny in smb.conf for the address that smbd sees");
  }
  reader_.skip(smb2::kNbtBytes);
  total_ = next->length;
  if (total_ == 0) ++keepalives_;
  if (total_ > 0) mode_ = Mode::prefix;  // a keepalive, and a message of nothing, say nothing
  return true;
}

bool ResponsePath::plan_pdu() {
  std::array<std::byte, smb2::kPrefixBytes> scratch{};
  const auto prefix = reader_.peek(std::min<uint64_t>(total_, smb2::kPrefixBytes), scratch);
  const auto plan = context_.translator.response(prefix, total_);
  if (!plan) return broken(plan.error());
  plan_ = *plan;
  if (plan_.kind == smb2::ResponsePlan::Kind::swallow) {  // for nobody
    mode_ = Mode::swallow;
    left_ = total_;
    return true;
  }
  if (smb2::shows_session(prefix)) context_.events.on_session_set_up();
  if (plan_.command == smb2::Command::tree_connect || plan_.session_set_up) link_.ask_again();
  // A channel that was bound to a session may open nothing, and close what others have.
  const bool on_file = plan_.command == smb2::Command::create || plan_.command == smb2::Command::read ||
                       plan_.command == smb2::Command::write;
  if (on_file && smb2::plain_success(prefix)) files_.opened();
  if (!agreed_ && context_.translator.negotiated()) {
    agreed_ = true;
    context_.events.on_agreed(*context_.translator.negotiated());
  }
  ++context_.transport.own_counters().smb_responses;
  context_.transport.record(EventKind::response, plan_.command ? uint64_t(*plan_.command) : 0xFFFF, total_);
  if (plan_.answered) took(*plan_.answered);
  if (plan_.written) files_.smbd_wrote(*plan_.written);
  if (plan_.previous_session != 0) previous_.answered(plan_.previous_session);
  promised_ = plan_.released;
  switch (plan_.kind) {
    case smb2::ResponsePlan::Kind::pass: {
      const auto token = plan_.invalidate;
      if (!begin_message(total_, token ? std::span(&*token, 1) : std::span<const uint32_t>{})) return false;
      mode_ = Mode::pass;
      left_ = total_;
      return !plan_.told || send_told_header();
    }
    case smb2::ResponsePlan::Kind::place:
      to_.set(plan_.to);
      mode_ = Mode::skip_to_data;
      left_ = plan_.data_offset;
      return true;
    case smb2::ResponsePlan::Kind::gather:
      mode_ = Mode::gather;
      left_ = total_;
      return true;
    case smb2::ResponsePlan::Kind::replace:
      send_from_area();
      mode_ = Mode::skip_rest;
      left_ = total_;
      return true;
    case smb2::ResponsePlan::Kind::swallow:
      break;
  }
  return false;
}

/// In place of smbd's own.
bool ResponsePath::send_told_header() {
  auto piece = header(std::span(plan_.header).first(smb2::kHeaderBytes));
  if (!piece) return false;
  context_.transport.append(std::move(piece->owner), piece->bytes);
  reader_.skip(smb2::kHeaderBytes);
  left_ -= smb2::kHeaderBytes;
  return true;
}

void ResponsePath::took(const smb2::Answered& answered) {
  const shm::Operation operation = answered.command == smb2::Command::read    ? shm::Operation::smb_read
                                   : answered.command == smb2::Command::write ? shm::Operation::smb_write
                                                                              : shm::Operation::smb_other;
  context_.transport.took(operation, answered.forwarded_at);
}

bool ResponsePath::pass_some() {
  auto chunk = reader_.take(left_);
  left_ -= chunk.bytes.size();
  context_.transport.append(std::move(chunk.owner), chunk.bytes);
  return left_ > 0 || end_pdu();
}

bool ResponsePath::place_some() {
  while (left_ > 0) {
    if (reader_.available() == 0) return false;
    auto chunk = reader_.take(left_);
    left_ -= chunk.bytes.size();
    place(chunk.owner, chunk.bytes, to_);
  }
  mode_ = Mode::skip_rest;
  left_ = total_ - plan_.data_offset - plan_.data_length;
  return true;
}

/// The translator has checked that they fit the descriptors.
void ResponsePath::place(const SlabRef& owner, std::span<const std::byte> bytes, Placement& to) {
  to.place(bytes, [&](std::span<const std::byte> some, const smb2::BufferDescriptor& at) {
    context_.transport.rdma_write(owner.share(), some, {at.offset, at.token});
    ++writes_asked_;
  });
}

/// smbd has answered a carrier: what it read is in the area, and goes from there.
void ResponsePath::send_from_area() {
  if (!plan_.final) return;
  area_.settled();
  if (!plan_.area_released) return area_.give_up();
  Counters& counters = context_.transport.own_counters();
  const bool read = plan_.command == smb2::Command::read;
  ++(read ? counters.area_reads : counters.area_writes);
  (read ? counters.area_read_bytes : counters.area_write_bytes) += plan_.moved;
  if (plan_.data_length > 0) {
    to_.set(plan_.to);
    place(area_.memory(), area_.bytes(plan_.area_offset, plan_.data_length), to_);
  }
  leaving_.push({.offset = plan_.area_offset, .length = plan_.area_length, .last_write = writes_asked_});
  on_writes_done(0);
}

/// They are done in the order in which they were asked for.
void ResponsePath::on_writes_done(uint64_t count) {
  writes_done_ += count;
  while (!leaving_.empty() && leaving_.front().last_write <= writes_done_) {
    const Leaving left = leaving_.pop();
    area_.give_back(left.offset, left.length);
  }
}

/// The data is on its way: now the response that says so.
bool ResponsePath::finish_placed() {
  auto piece = header(std::span(plan_.header).first(plan_.header_bytes));
  if (!piece) return false;
  const auto token = plan_.invalidate;
  if (!begin_message(piece->bytes.size(), token ? std::span(&*token, 1) : std::span<const uint32_t>{}))
    return false;
  context_.transport.append(std::move(piece->owner), piece->bytes);
  return end_pdu();
}

/// A copy in memory that stays until it is sent. Nothing: there is none, and the session is told.
std::optional<ResponsePath::Piece> ResponsePath::header(std::span<const std::byte> bytes) {
  if (!headers_ || headers_.bytes().size() - headers_used_ < bytes.size()) {
    headers_ = context_.slabs.acquire_forced(context_.budget);
    headers_used_ = 0;
    if (!headers_) {
      broken("out of memory");
      return std::nullopt;
    }
  }
  const auto copy = headers_.bytes().subspan(headers_used_, bytes.size());
  headers_used_ += bytes.size();
  std::ranges::copy(bytes, copy.begin());
  return Piece{.owner = headers_.share(), .bytes = copy};
}

// --- what is answered here ---

void ResponsePath::answer(const smb2::DirectAnswer& head, const Here& here) {
  if (broken_) return;
  auto piece = header(head.span());
  if (!piece) return;
  kept_pieces_.push(std::move(*piece));
  kept_.push({.total = head.size, .pieces = 1, .invalidate = here.invalidate});
  answered(here);
}

void ResponsePath::interim(const smb2::DirectAnswer& head) {
  if (broken_) return;
  auto piece = header(head.span());
  if (!piece) return;
  kept_pieces_.push(std::move(*piece));
  kept_.push({.total = head.size, .pieces = 1, .invalidate = {}});
  ++context_.transport.own_counters().smb_responses;
  if (mode_ != Mode::pass) (void)send_kept();
}

void ResponsePath::answer(const smb2::DirectAnswer& head, std::vector<DirectOperation::Chunk>& chunks,
                          const Here& here) {
  if (broken_) return;
  DirectOperation::Chunk& first = chunks.front();
  first.begin -= static_cast<uint32_t>(head.size);
  std::ranges::copy(head.span(), first.slab.bytes().begin() + first.begin);
  Kept kept{.total = 0, .pieces = chunks.size(), .invalidate = here.invalidate};
  for (DirectOperation::Chunk& chunk : chunks) {
    const auto bytes = chunk.bytes();
    kept.total += bytes.size();
    kept_pieces_.push({.owner = std::move(chunk.slab), .bytes = bytes});
  }
  chunks.clear();
  kept_.push(kept);
  answered(here);
}

void ResponsePath::answered(const Here& here) {
  ++context_.transport.own_counters().smb_responses;
  const bool read = here.operation == shm::Operation::smb_read;
  context_.transport.record(EventKind::response, uint64_t(read ? smb2::Command::read : smb2::Command::write),
                            kept_.back().total);
  context_.transport.took(here.operation, here.began_us);
  context_.admission.release(here.released);
  context_.answered_ms = context_.transport.now();
  if (mode_ != Mode::pass) (void)send_kept();
}

bool ResponsePath::send_kept() {
  while (!kept_.empty()) {
    const Kept kept = kept_.pop();
    const auto token = kept.invalidate;
    if (!begin_message(kept.total, token ? std::span(&*token, 1) : std::span<const uint32_t>{})) return false;
    for (size_t i = 0; i < kept.pieces; ++i) {
      Piece piece = kept_pieces_.pop();
      context_.transport.append(std::move(piece.owner), piece.bytes);
    }
  }
  return true;
}

/// A compound with RDMA-channel READs in it must be complete and contiguous: as it lies, or copied together
/// as it comes, so that the slabs it came in are free again.
bool ResponsePath::gather_some() {
  if (left_ == total_ && reader_.available() >= total_) {
    if (reader_.front(total_).size() == total_) {
      auto chunk = reader_.take(total_);
      return finish_gather(std::move(chunk.owner), chunk.bytes);
    }
  }
  if (reader_.available() == 0) return false;
  if (!block_) {
    block_ = context_.memory.reply_block(static_cast<uint32_t>(total_), context_.transport.idle());
    if (!block_) {
      waits_ = true;
      return false;
    }
  }
  while (left_ > 0 && reader_.available() > 0) {
    const auto chunk = reader_.take(left_);
    std::memcpy(block_.bytes().data() + (total_ - left_), chunk.bytes.data(), chunk.bytes.size());
    left_ -= chunk.bytes.size();
    context_.transport.own_counters().copied_bytes += chunk.bytes.size();
  }
  if (left_ > 0) return false;
  const auto bytes = block_.bytes().first(total_);
  return finish_gather(std::move(block_), bytes);
}

bool ResponsePath::finish_gather(SlabRef owner, std::span<std::byte> bytes) {
  chain_.clear();
  const auto planned = context_.translator.response_chain(bytes, chain_);
  if (!planned) return broken(planned.error());
  if (chain_.session_set_up) context_.events.on_session_set_up();
  for (const smb2::Answered& answered : chain_.answered) took(answered);
  promised_ += chain_.released;
  for (const smb2::Placement& placement : chain_.placements) {
    to_.set(placement.to);
    place(owner, placement.data, to_);
  }
  if (!begin_message(chain_.total, chain_.invalidate)) return false;
  for (const smb2::Piece& piece : chain_.pieces) {
    context_.transport.append(owner.share(), piece.bytes);
  }
  return end_pdu();
}

bool ResponsePath::begin_message(uint64_t total, std::span<const uint32_t> invalidate) {
  if (context_.transport.begin_message(total, invalidate)) return true;
  return broken("a response of " + std::to_string(total) +
                " bytes is more than the client takes (its MaxFragmentedSize); mount with smaller rsize and "
                "wsize");
}

/// All of it is in our memory, and counts there now instead of among the promises.
bool ResponsePath::end_pdu() {
  mode_ = Mode::length;
  context_.admission.release(std::exchange(promised_, 0));
  context_.answered_ms = context_.transport.now();
  return send_kept();
}

bool ResponsePath::broken(std::string why) {
  broken_ = true;
  context_.events.on_broken(std::move(why));
  return false;
}

bool ResponsePath::broken(smb2::Violation violation) {
  return broken("smbd's response: " + std::string(violation_text(violation)));
}

}  // namespace smbdirect::workers
