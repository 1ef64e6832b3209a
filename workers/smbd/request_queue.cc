// SPDX-License-Identifier: MIT
#include "workers/smbd/request_queue.h"

#include <algorithm>
#include <array>
#include <utility>

namespace smbdirect::workers {
namespace {

constexpr size_t kLargestRead = 256 * 1024;  // of one RDMA work request, as large as a slab

}  // namespace

std::unique_ptr<RequestQueue::Entry> RequestQueue::blank() {
  if (auto entry = direct_.spare()) return entry;
  if (spare_.empty()) return std::make_unique<Entry>();
  auto entry = std::move(spare_.back());
  spare_.pop_back();
  return entry;
}

void RequestQueue::push(std::unique_ptr<Entry> entry) {
  Waiting waiting;
  waiting.may_be_passed = entry->may_be_passed;
  waiting.file_id = entry->file_id;
  waiting.entry = std::move(entry);
  waiting_.push(std::move(waiting));
}

bool RequestQueue::may_pass(const smb2::FileId* file) {
  if (mid_pdu() || direct_.any_returned()) return false;
  for (size_t i = 0; i < waiting_.size(); ++i) {
    const Waiting& waiting = waiting_.at(i);
    if (!waiting.may_be_passed) return false;
    if (file != nullptr && waiting.file_id == *file) return false;
  }
  return true;
}

void RequestQueue::fetch() {
  starved_ = false;
  for (size_t i = 0; i < waiting_.size(); ++i) {
    Waiting& waiting = waiting_.at(i);
    if (!waiting.fetched_all() && waiting.entry->request.area) fetch_into_area(waiting);
    while (!waiting.fetched_all()) {
      if (fetch_chunk(waiting)) continue;
      waiting.entry->direct.reset();  // not all of it at a time: piece by piece, to smbd
      return;
    }
  }
}

/// Asks for up to a slab of the current fetch. False when memory must be awaited.
bool RequestQueue::fetch_chunk(Waiting& waiting) {
  const smb2::Fetch& fetch = waiting.entry->request.fetches[waiting.fetch];
  // One chunk may always be under way, or a connection could starve on other connections' memory. What smbd
  // has not taken is one too: or the connection of an smbd that reads nothing would have one after the other.
  const bool sending = !outbox_.empty();
  const bool none = chunks_.empty();
  SlabRef slab = context_.memory.slab(none && !sending);
  if (!slab) {
    starved_ = none;
    if (sending) context_.memory.note(Room::own);  // smbd makes some
    return false;
  }
  const auto want =
      static_cast<uint32_t>(std::min<uint64_t>(fetch.length - waiting.asked, slab.bytes().size()));
  ask(waiting, fetch, slab.bytes().first(want), slab.key());
  chunks_.push({std::move(slab), want, reads_asked_});
  waiting.asked += want;
  if (waiting.asked == fetch.length) {
    ++waiting.fetch;
    waiting.descriptor = waiting.in_descriptor = waiting.asked = 0;
  }
  return true;
}

/// RDMA READs for the next bytes of the fetch; the translator has checked that its descriptors suffice.
void RequestQueue::ask(Waiting& waiting, const smb2::Fetch& fetch, std::span<std::byte> into, uint32_t key) {
  while (!into.empty()) {
    const auto from = fetch.descriptor(waiting.descriptor);
    if (!from) return;
    const size_t here = std::min<size_t>({into.size(), from->length - waiting.in_descriptor, kLargestRead});
    if (here > 0) {
      context_.transport.rdma_read(into.first(here), key, {from->offset + waiting.in_descriptor, from->token},
                                   0);
      ++reads_asked_;
      into = into.subspan(here);
      waiting.in_descriptor += uint32_t(here);
    }
    if (waiting.in_descriptor == from->length) {
      ++waiting.descriptor;
      waiting.in_descriptor = 0;
    }
  }
}

/// The memory is there already.
void RequestQueue::fetch_into_area(Waiting& waiting) {
  const smb2::Fetch& fetch = waiting.entry->request.fetches.front();
  ask(waiting, fetch, area_.bytes(waiting.entry->request.area->offset, fetch.length), area_.memory().key());
  chunks_.push({{}, fetch.length, reads_asked_});
  ++waiting.fetch;
}

/// Moves the chunks of the front's current fetch that have arrived. False when more must arrive.
bool RequestQueue::emit_fetch(Entry& entry, const smb2::Fetch& fetch) {
  for (Entry::Data& data : entry.data) {
    const auto bytes = std::span<const std::byte>(data.slab.bytes()).first(data.length);
    outbox_.push(std::move(data.slab), bytes);
    front_fetch_emitted_ += data.length;
  }
  entry.data.clear();
  while (front_fetch_emitted_ < fetch.length) {
    if (chunks_.empty() || chunks_.front().last_read > reads_done_) return false;
    Chunk chunk = chunks_.pop();
    front_fetch_emitted_ += chunk.length;
    const auto bytes = std::span<const std::byte>(chunk.slab.bytes()).first(chunk.length);
    outbox_.push(std::move(chunk.slab), bytes);
  }
  front_fetch_emitted_ = 0;
  return true;
}

/// The data of the front, which may be done here; what has come is written while it is in the cache. False:
/// more must arrive.
bool RequestQueue::take_data(Waiting& waiting) {
  if (!waiting.fetched_all()) return false;
  Entry& entry = *waiting.entry;
  const uint64_t length = entry.request.fetches.front().length;
  uint64_t here = 0;
  for (const Entry::Data& data : entry.data) here += data.length;
  const uint64_t before = here;
  while (here < length && chunks_.front().last_read <= reads_done_) {
    Chunk chunk = chunks_.pop();
    here += chunk.length;
    entry.data.push_back({.slab = std::move(chunk.slab), .length = chunk.length});
  }
  if (here == length) return true;
  waiting.missing = length - here;
  if (here > before) direct_.write_ahead(waiting.entry);
  return false;
}

/// The front is away, being written ahead. True: it hangs, has all its data, and goes on without its place.
bool RequestQueue::leaves_front() {
  if (waiting_.size() == 1 || !direct_.ahead_hangs()) return false;
  size_t count = 0;
  for (uint64_t here = 0; here < waiting_.front().missing; ++count) {
    const Chunk& chunk = chunks_.at(count);
    if (chunk.last_read > reads_done_) return false;
    here += chunk.length;
  }
  std::vector<Entry::Data> rest;
  for (; count > 0; --count) {
    Chunk chunk = chunks_.pop();
    rest.push_back({.slab = std::move(chunk.slab), .length = chunk.length});
  }
  direct_.take_rest(std::move(rest));
  waiting_.drop();
  return true;
}

void RequestQueue::tell_ids() {
  smb2::SequenceLedger& ledger = context_.translator.ledger();
  if (!ledger.owes()) return;
  std::array<std::byte, Outbox::kInlineBytes> echo{};
  static_assert(sizeof echo >= smb2::SequenceLedger::kEchoBytes);
  for (size_t size = ledger.tell(echo); size != 0; size = ledger.tell(echo))
    outbox_.push_copy(std::span(echo).first(size));
}

bool RequestQueue::done_at_once(std::unique_ptr<Entry>& entry) {
  if (!entry->direct || entry->fetches()) return false;
  if (!waiting_.empty() && !may_pass(&entry->file_id)) return false;
  return direct_.take(entry);
}

void RequestQueue::advance() {
  while (turn()) {
  }
  if (!mid_pdu() && context_.translator.ledger().due()) tell_ids();
}

bool RequestQueue::turn() {
  if (!front_started_) {
    if (auto entry = direct_.next_returned()) {
      begin(*entry);
      (void)emit(*entry);  // its data is here
      finish(std::move(entry));
      return true;
    }
    if (one_from_aside()) return true;
  }
  if (waiting_.empty()) return false;
  Waiting& front = waiting_.front();
  if (front.entry == nullptr) front.entry = direct_.written_ahead();
  if (front.entry == nullptr) return leaves_front();
  if (!front_started_) {
    Entry& entry = *front.entry;
    if (held_up(entry)) {
      if (!goes_aside(entry)) return false;
      aside_.push_back(waiting_.pop().entry);
      return true;
    }
    if (entry.direct && entry.fetches() && !take_data(front)) return false;
    if (entry.direct && direct_.take(front.entry)) {
      waiting_.drop();
      return true;
    }
    // Not before the first data is here: until then others may pass.
    const bool fetches = entry.fetches() && entry.data.empty();
    if (fetches && (chunks_.empty() || chunks_.front().last_read > reads_done_)) return false;
    begin(entry);
    front_started_ = true;
  }
  if (!emit(*front.entry)) return false;
  front_started_ = false;
  finish(waiting_.pop().entry);
  return true;
}

bool RequestQueue::held_up(const Entry& entry) {
  return direct_.holds_up(entry.holds, entry.file_id, entry.bytes());
}

/// It is held up.
bool RequestQueue::goes_aside(const Entry& entry) const {
  return entry.holds == smb2::Holds::file && !entry.direct && !entry.fetches() &&
         aside_.size() < kMostAside && direct_.hangs(entry.file_id);
}

bool RequestQueue::one_from_aside() {
  const auto at = std::ranges::find_if(aside_, [this](const auto& entry) { return !held_up(*entry); });
  if (at == aside_.end()) return false;
  auto entry = std::move(*at);
  aside_.erase(at);
  begin(*entry);
  (void)emit(*entry);  // it fetches nothing
  finish(std::move(entry));
  return true;
}

void RequestQueue::begin(const Entry& entry) {
  tell_ids();
  outbox_.push_copy(smb2::encode_nbt(static_cast<uint32_t>(entry.request.total)));
}

/// As much as is here. False: there is more to come.
bool RequestQueue::emit(Entry& entry) {
  if (entry.request.area) {
    if (entry.fetches()) (void)chunks_.pop();
    // Over what the client sent, which nobody needs now: it stays as long as smbd has not taken it.
    const std::span carrier = entry.pdu.bytes().first(entry.request.carrier.size());
    std::ranges::copy(entry.request.carrier, carrier.begin());
    outbox_.push(entry.pdu.share(), carrier);
    front_piece_ = entry.request.pieces.size();
  }
  for (; front_piece_ < entry.request.pieces.size(); ++front_piece_) {
    const smb2::Piece& piece = entry.request.pieces[front_piece_];
    if (piece.fetch < 0) {
      outbox_.push(entry.pdu.share(), piece.bytes);
    } else if (!emit_fetch(entry, entry.request.fetches[static_cast<size_t>(piece.fetch)])) {
      return false;
    }
  }
  return true;
}

void RequestQueue::finish(std::unique_ptr<Entry> entry) {
  context_.translator.forwarded(entry->request.ticket, context_.transport.clock_us());
  front_piece_ = 0;
  entry->clear();
  spare_.push_back(std::move(entry));
}

}  // namespace smbdirect::workers
