// SPDX-License-Identifier: MIT
#include "protocol/smb2/request_table.h"

#include <bit>
#include <utility>

#include "protocol/smb2/fields.h"

namespace smbdirect::protocol::smb2 {

size_t RequestTable::home(uint64_t message_id) const {
  const auto bits = static_cast<unsigned>(std::countr_zero(index_.size()));
  uint64_t hash = message_id * (secret_ | 1);
  hash ^= hash >> 32;
  return static_cast<size_t>((hash * 0x9E3779B97F4A7C15u) >> (64 - bits));
}

InFlight* RequestTable::find(uint64_t message_id) const {
  if (live_ == 0) return nullptr;
  const size_t mask = index_.size() - 1;
  for (size_t i = home(message_id); index_[i] != 0; i = (i + 1) & mask) {
    InFlight& request = at(index_[i] - 1);
    if (request.message_id == message_id) return &request;
  }
  return nullptr;
}

void RequestTable::grow_index() {
  const std::vector<uint32_t> old =
      std::exchange(index_, std::vector<uint32_t>(index_.empty() ? 2 * kChunk : 2 * index_.size()));
  const size_t mask = index_.size() - 1;
  for (const uint32_t entry : old) {
    if (entry == 0) continue;
    size_t i = home(at(entry - 1).message_id);
    while (index_[i] != 0) i = (i + 1) & mask;
    index_[i] = entry;
  }
}

std::expected<InFlight*, Violation> RequestTable::add(uint64_t message_id) {
  if (message_id == kUnsolicitedMessageId) return std::unexpected(Violation::reserved_message_id);
  if (find(message_id) != nullptr) return std::unexpected(Violation::duplicate_message_id);
  if (live_ >= max_requests_) return std::unexpected(Violation::too_many_requests);
  if (2 * (live_ + 1) > index_.size()) grow_index();
  if (free_.empty()) {
    const auto first = static_cast<uint32_t>(chunks_.size() * kChunk);
    chunks_.push_back(std::make_unique<std::array<InFlight, kChunk>>());
    free_.reserve(chunks_.size() * kChunk);
    finished_.reserve(chunks_.size() * kChunk);
    for (uint32_t i = kChunk; i-- > 0;) {
      at(first + i).slot_ = first + i;
      free_.push_back(first + i);
    }
  }
  InFlight& request = at(free_.back());
  free_.pop_back();
  request.message_id = message_id;

  const size_t mask = index_.size() - 1;
  size_t i = home(message_id);
  while (index_[i] != 0) i = (i + 1) & mask;
  index_[i] = request.slot_ + 1;
  ++live_;
  return &request;
}

void RequestTable::join(Pdu& pdu, InFlight& request) {
  const uint32_t number = request.slot_ + 1;
  if (pdu.first == 0) {
    pdu.first = number;
  } else {
    at(pdu.last - 1).next_in_pdu_ = number;
  }
  pdu.last = number;
}

void RequestTable::forwarded(const Pdu& pdu, uint64_t at_time) {
  for (uint32_t number = pdu.first; number != 0;) {
    InFlight& request = at(number - 1);
    request.forwarded = true;
    request.forwarded_at = at_time;
    number = std::exchange(request.next_in_pdu_, 0);
  }
}

std::span<BufferDescriptor> RequestTable::descriptors_for(InFlight& request, size_t count) {
  if (count <= InFlight::kInline) {
    request.data_ = request.inline_.data();
  } else {
    uint8_t block_class = 0;
    while (kBlockSizes[block_class] < count) ++block_class;
    auto& free = free_blocks_[block_class];
    if (!free.empty()) {
      request.block_ = std::move(free.back());
      free.pop_back();
    } else {
      if (kMaxPooledDescriptors - pooled_ < kBlockSizes[block_class]) {
        trim();  // other sizes' free blocks count against the bound
        if (kMaxPooledDescriptors - pooled_ < kBlockSizes[block_class]) return {};
      }
      request.block_ = std::make_unique<BufferDescriptor[]>(kBlockSizes[block_class]);
      pooled_ += kBlockSizes[block_class];
    }
    request.block_class_ = block_class;
    request.data_ = request.block_.get();
  }
  request.count_ = static_cast<uint32_t>(count);
  return {request.data_, count};
}

void RequestTable::finish(InFlight& request) {
  const size_t mask = index_.size() - 1;
  size_t hole = home(request.message_id);
  while (index_[hole] != request.slot_ + 1) hole = (hole + 1) & mask;
  // Backward shift: no tombstones, so a probe never lengthens with age.
  for (size_t i = (hole + 1) & mask; index_[i] != 0; i = (i + 1) & mask) {
    const size_t ideal = home(at(index_[i] - 1).message_id);
    if (((i - ideal) & mask) >= ((i - hole) & mask)) {
      index_[hole] = index_[i];
      hole = i;
    }
  }
  index_[hole] = 0;
  --live_;
  finished_.push_back(request.slot_);
}

void RequestTable::release_block(InFlight& request) {
  if (request.block_) free_blocks_[request.block_class_].push_back(std::move(request.block_));
  request.data_ = nullptr;
  request.count_ = 0;
}

void RequestTable::trim() {
  for (size_t block_class = 0; block_class < kBlockClasses; ++block_class) {
    pooled_ -= free_blocks_[block_class].size() * kBlockSizes[block_class];
    free_blocks_[block_class].clear();
  }
}

void RequestTable::recycle() {
  for (const uint32_t slot : finished_) {
    InFlight& request = at(slot);
    release_block(request);
    static_cast<RequestFacts&>(request) = {};
    request.next_in_pdu_ = 0;
    free_.push_back(slot);
  }
  finished_.clear();
}

}  // namespace smbdirect::protocol::smb2
