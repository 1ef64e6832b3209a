// SPDX-License-Identifier: MIT
#include "workers/connect/exposed_memory.h"

#include <algorithm>

namespace smbdirect::workers::connect {

namespace {

// A cookie is the entry's index below and its generation above: a stale one finds nothing.
constexpr uint64_t cookie_of(size_t index, uint32_t generation) {
  return uint64_t{generation} << 32U | static_cast<uint64_t>(index);
}

}  // namespace

uint64_t ExposedMemory::open() {
  if (free_.empty()) {
    free_.push_back(static_cast<uint32_t>(entries_.size()));
    entries_.emplace_back();
    free_.reserve(entries_.capacity());
  }
  const uint32_t index = free_.back();
  free_.pop_back();
  Entry& entry = entries_[index];
  entry.live = true;
  ++entry.generation;
  ++live_;
  return cookie_of(index, entry.generation);
}

ExposedMemory::Entry* ExposedMemory::find(uint64_t cookie) {
  const auto index = static_cast<size_t>(cookie & UINT32_MAX);
  if (index >= entries_.size()) return nullptr;
  Entry& entry = entries_[index];
  return entry.live && entry.generation == cookie >> 32U ? &entry : nullptr;
}

bool ExposedMemory::add(uint64_t cookie, SlabRef owner, std::span<std::byte> bytes, fabric::Access access) {
  Entry* entry = find(cookie);
  if (entry == nullptr) return false;
  const auto remote = transport_.expose(bytes, access);
  if (!remote) return false;
  entry->pieces.push_back({std::move(owner), bytes, *remote});
  ++pieces_;
  return true;
}

std::span<const protocol::smb2::BufferDescriptor> ExposedMemory::descriptors(uint64_t cookie) {
  descriptors_.clear();
  if (Entry* entry = find(cookie); entry != nullptr) {
    for (const Piece& piece : entry->pieces) {
      descriptors_.push_back({.offset = piece.remote.offset,
                              .token = piece.remote.token,
                              .length = static_cast<uint32_t>(piece.bytes.size())});
    }
  }
  return descriptors_;
}

void ExposedMemory::invalidated(uint32_t token) {
  for (Entry& entry : entries_) {
    if (!entry.live) continue;
    for (Piece& piece : entry.pieces) {
      if (piece.remote.token != token || piece.revoked) continue;
      piece.revoked = true;
      return;
    }
  }
}

void ExposedMemory::revoke(Entry& entry) {
  for (Piece& piece : entry.pieces) {
    if (!piece.revoked) transport_.unexpose(piece.remote.token);
    piece.revoked = true;
  }
}

void ExposedMemory::close(Entry& entry) {
  pieces_ -= entry.pieces.size();
  entry.pieces.clear();
  entry.live = false;
  --live_;
  ++closed_;
  free_.push_back(static_cast<uint32_t>(&entry - entries_.data()));
}

bool ExposedMemory::deliver(uint64_t cookie, uint64_t length, Outbox& out) {
  Entry* entry = find(cookie);
  if (entry == nullptr) return false;
  uint64_t room = 0;
  for (const Piece& piece : entry->pieces) room += piece.bytes.size();
  if (room < length) return false;
  revoke(*entry);
  for (Piece& piece : entry->pieces) {
    const auto here = static_cast<size_t>(std::min<uint64_t>(length, piece.bytes.size()));
    if (here == 0) break;
    out.push(std::move(piece.owner), piece.bytes.first(here));
    length -= here;
  }
  close(*entry);
  return true;
}

void ExposedMemory::drop(uint64_t cookie) {
  Entry* entry = find(cookie);
  if (entry == nullptr) return;
  revoke(*entry);
  close(*entry);
}

void ExposedMemory::clear() {
  for (Entry& entry : entries_) {
    if (entry.live) close(entry);
  }
}

}  // namespace smbdirect::workers::connect
