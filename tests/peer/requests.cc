// SPDX-License-Identifier: MIT
#include "requests.h"

#include <algorithm>
#include <string>

#include "protocol/smb2/classify.h"

namespace smbdirect::tests::peer {
namespace {

std::unexpected<std::string> refused(smb2::Violation violation) {
  return std::unexpected("the client's request: " + std::string(smb2::violation_text(violation)));
}

}  // namespace

Outcome<> RequestRelay::take(std::span<const std::byte> pdu) {
  const auto info = translator_.classify(pdu.first(std::min(pdu.size(), smb2::kPrefixBytes)), pdu.size());
  if (!info) return refused(info.error());
  auto request = std::make_unique<Request>();
  request->pdu.assign(pdu.begin(), pdu.end());
  if (info->route == smb2::RequestInfo::Route::stream) {
    const auto noted = translator_.note(*info);
    if (!noted) return refused(noted.error());
    request->rewritten.ticket = *noted;
    request->rewritten.pieces.push_back({.bytes = request->pdu});
    request->rewritten.total = request->pdu.size();
  } else if (const auto rewritten = translator_.request(request->pdu, request->rewritten); !rewritten) {
    return refused(rewritten.error());
  }
  request->length_word = smb2::encode_nbt(static_cast<uint32_t>(request->rewritten.total));
  waiting_bytes_ += request->pdu.size();
  waiting_.push_back({.request = std::move(request), .memory = {}, .at = {}});
  return {};
}

Outcome<> RequestRelay::advance(int smbd) {
  if (auto fetched = fetch(); !fetched) return fetched;
  emit();
  const auto gone = outbox_.flush(smbd);
  if (!gone) return std::unexpected(gone.error());
  waiting_bytes_ -= *gone;
  // What smbd took has left room in the area.
  return fetch();
}

/// Asks for the data of all that wait, in order, as far as there is room for it.
Outcome<> RequestRelay::fetch() {
  for (Waiting& waiting : waiting_) {
    while (waiting.fetch < waiting.request->rewritten.fetches.size()) {
      const auto asked = fetch_chunk(waiting);
      if (!asked) return std::unexpected(asked.error());
      if (!*asked) return {};
    }
  }
  return {};
}

Outcome<bool> RequestRelay::fetch_chunk(Waiting& waiting) {
  const smb2::Fetch& fetch = waiting.request->rewritten.fetches[waiting.fetch];
  if (waiting.asked == 0) {
    waiting.memory.clear();
    while (const auto descriptor = fetch.descriptor(waiting.memory.size()))
      waiting.memory.push_back(*descriptor);
  }
  DescriptorCursor at = waiting.asked == 0 ? DescriptorCursor(waiting.memory) : waiting.at;
  const size_t length = at.take(std::min<size_t>(fetch.length - waiting.asked, transfers_.largest()), slice_);
  auto region = transfers_.fetched().take(length);
  if (!region) return false;
  chunks_.push_back({std::move(*region)});
  Chunk& chunk = chunks_.back();  // stays where it is: a deque grows and shrinks at its ends
  const auto asked = transfers_.read(chunk.region, slice_, [&chunk] { chunk.arrived = true; });
  if (!asked || !*asked) {
    chunks_.pop_back();
    return asked;
  }
  waiting.at = at;
  waiting.asked += static_cast<uint32_t>(length);
  if (waiting.asked == fetch.length) {
    ++waiting.fetch;
    waiting.asked = 0;
  }
  return true;
}

/// Moves what is at hand to the outbox, in order. A request that has begun there is finished before any
/// other.
void RequestRelay::emit() {
  while (!waiting_.empty()) {
    Request& request = *waiting_.front().request;
    const auto& pieces = request.rewritten.pieces;
    if (!front_started_) {
      if (!request.rewritten.fetches.empty() && (chunks_.empty() || !chunks_.front().arrived)) return;
      outbox_.push({.bytes = request.length_word});
      front_started_ = true;
    }
    for (; front_piece_ < pieces.size(); ++front_piece_) {
      const smb2::Piece& piece = pieces[front_piece_];
      if (piece.fetch < 0) {
        outbox_.push({.bytes = piece.bytes});
      } else if (!emit_fetch(request.rewritten.fetches[static_cast<size_t>(piece.fetch)].length)) {
        return;
      }
    }
    translator_.forwarded(request.rewritten.ticket);
    // Of no bytes, behind all of them: it keeps the request until they are written.
    outbox_.push({.bytes = {}, .request = std::move(waiting_.front().request)});
    waiting_.pop_front();
    front_piece_ = 0;
    front_started_ = false;
  }
}

/// False when more of it must arrive first.
bool RequestRelay::emit_fetch(uint32_t length) {
  while (front_emitted_ < length) {
    if (chunks_.empty() || !chunks_.front().arrived) return false;
    auto region = std::move(chunks_.front().region);
    chunks_.pop_front();
    front_emitted_ += static_cast<uint32_t>(region.length());
    const auto bytes = transfers_.bytes(region);
    outbox_.push({.bytes = bytes, .region = std::move(region)});
  }
  front_emitted_ = 0;
  return true;
}

}  // namespace smbdirect::tests::peer
