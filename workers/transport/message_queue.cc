// SPDX-License-Identifier: MIT
#include "workers/transport/message_queue.h"

#include <algorithm>
#include <utility>

namespace smbdirect::workers {

namespace {

// What a message and a piece of one take in the queues at most, doubling and their traces until they are sent
// included.
constexpr uint64_t kMessageBytes = 128;
constexpr uint64_t kPieceBytes = 96;

}  // namespace

void MessageQueue::begin(uint64_t total, uint64_t barrier, std::span<const uint32_t> invalidate) {
  for (const uint32_t token : invalidate) tokens_.push(token);
  charge_.add(kMessageBytes + sizeof(uint32_t) * invalidate.size());
  messages_.push({.total = total,
                  .left = total,
                  .barrier = barrier,
                  .tokens = static_cast<uint32_t>(invalidate.size())});
}

void MessageQueue::append(SlabRef owner, std::span<const std::byte> bytes) {
  if (bytes.empty()) return;
  charge_.add(kPieceBytes);
  pieces_bytes_ += bytes.size();
  pieces_.push({std::move(owner), bytes});
}

uint64_t MessageQueue::ready() const {
  return messages_.empty() ? 0 : std::min(messages_.front().left, pieces_bytes_);
}

uint32_t MessageQueue::fragment_cap(uint32_t most_pieces) const {
  if (messages_.empty()) return UINT32_MAX;
  const Message& message = messages_.front();
  uint64_t cap = UINT32_MAX;
  if (pieces_.size() > most_pieces) {
    cap = 0;
    for (uint32_t i = 0; i < most_pieces; ++i) cap += pieces_.at(i).bytes.size();
  }
  if (message.tokens > 1) cap = std::min(cap, message.left / message.tokens);
  return static_cast<uint32_t>(std::clamp<uint64_t>(cap, 1, UINT32_MAX));
}

MessageQueue::Taken MessageQueue::take(uint32_t payload, std::span<fabric::Sge> into) {
  Taken taken;
  for (uint32_t left = payload; left > 0;) {
    Piece& piece = pieces_.front();
    const auto take = static_cast<uint32_t>(std::min<uint64_t>(left, piece.bytes.size()));
    into[taken.pieces++] = {const_cast<std::byte*>(piece.bytes.data()), take,
                            piece.owner ? piece.owner.key() : 0};
    left -= take;
    if (take == piece.bytes.size()) {
      charge_.sub(kPieceBytes);
      send_references_.push(pieces_.pop().owner);
    } else {
      send_references_.push(piece.owner ? piece.owner.share() : SlabRef{});
      piece.bytes = piece.bytes.subspan(take);
    }
  }
  sends_in_flight_.push(taken.pieces);
  pieces_bytes_ -= payload;
  if (payload == 0) return taken;
  Message& message = messages_.front();
  if (message.tokens > 0) {
    taken.token = tokens_.pop();
    charge_.sub(sizeof(uint32_t));
    --message.tokens;
  }
  message.left -= payload;
  if (message.left == 0) {
    messages_.drop();
    charge_.sub(kMessageBytes);
  }
  return taken;
}

void MessageQueue::sent() {
  for (uint32_t n = sends_in_flight_.pop(); n > 0; --n) send_references_.drop();
}

void MessageQueue::trim() {
  messages_.trim();
  pieces_.trim();
  tokens_.trim();
  sends_in_flight_.trim();
  send_references_.trim();
}

}  // namespace smbdirect::workers
