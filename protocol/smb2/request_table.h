// SPDX-License-Identifier: MIT
// The requests of one connection that await a final response, by MessageId, with what their response needs.
// Owned by a translator, one thread. Entries never move, so spans into them stay valid; entries, index and
// descriptor blocks are recycled: nothing is allocated once the table has reached its largest size. Bounded
// by max_requests entries and kMaxPooledDescriptors descriptors, whatever the peer sends.
#pragma once

#include <array>
#include <cstdint>
#include <expected>
#include <memory>
#include <span>
#include <vector>

#include "protocol/smb2/descriptor.h"
#include "protocol/smb2/file_order.h"
#include "protocol/smb2/pdu.h"

namespace smbdirect::protocol::smb2 {

/// What is known of a request in flight; all of it is forgotten at once with the request.
struct RequestFacts {
  uint64_t message_id{};
  uint64_t reserved{};      // bytes of reply reserved for it
  uint64_t cookie{};        // the client side's name for the exposed memory
  uint64_t async_id{};      // of its interim response, when `pending`
  uint64_t forwarded_at{};  // whatever clock the owner has
  uint32_t length{};        // bytes a READ or WRITE moves
  uint32_t token{};         // to invalidate with the final response, when `invalidate`
  Command command{};
  uint16_t credit_charge{};
  bool forwarded = false;        // all of it is on its way: only now can an answer be one
  bool pending = false;          // an interim response came
  bool rdma_channel = false;     // came with Channel != 0
  bool refused = false;          // ... and smbd will be made to answer INVALID_PARAMETER
  bool invalidate = false;       // ... and is answered with SEND with Invalidate
  Holds holds = Holds::nothing;  // of what is done here, while smbd has it
  FileId file_id{};              // READ and WRITE, and with Holds::file
  uint64_t previous_session{};   // RequestInfo's
  bool by_area = false;          // smbd got a carrier for it (area_carrier.h)
  bool here = false;             // it is begun here (SequenceLedger)
  uint16_t counted{};            // ... and this is counted upon for it
  bool told = false;             // ... and its client has an interim response, of which smbd knows nothing
  uint32_t minimum{};            // by_area, READ: MinimumCount
  uint64_t area_offset{};        // by_area: where its data is
};

/// A request in flight.
struct InFlight : RequestFacts {
  /// The peer's memory; valid until RequestTable::recycle() after finish().
  [[nodiscard]] std::span<const BufferDescriptor> descriptors() const { return {data_, count_}; }

 private:
  friend class RequestTable;
  static constexpr size_t kInline = 4;  // Linux sends 1; Windows one per physically contiguous piece
  std::array<BufferDescriptor, kInline> inline_{};
  std::unique_ptr<BufferDescriptor[]> block_;  // instead of inline_
  BufferDescriptor* data_ = nullptr;
  uint32_t count_ = 0;
  uint8_t block_class_ = 0;
  uint32_t slot_ = 0;
  uint32_t next_in_pdu_ = 0;  // slot + 1
};

class RequestTable {
 public:
  /// Descriptors in blocks, in use and kept for reuse: 4 MiB a connection, 64 requests of the largest size.
  static constexpr size_t kMaxPooledDescriptors = 256 * 1024;

  /// secret: the peer chooses MessageIds, and must not know which of them fall together.
  explicit RequestTable(uint32_t max_requests, uint64_t secret = 0)
      : max_requests_(max_requests), secret_(secret) {}
  RequestTable(const RequestTable&) = delete;
  RequestTable& operator=(const RequestTable&) = delete;

  /// Errors: reserved_message_id, duplicate_message_id, too_many_requests.
  [[nodiscard]] std::expected<InFlight*, Violation> add(uint64_t message_id);
  [[nodiscard]] InFlight* find(uint64_t message_id) const;

  /// The requests of one PDU, in order: a compound has several. Empty at first.
  struct Pdu {
    uint32_t first = 0;  // slot + 1
    uint32_t last = 0;
  };
  void join(Pdu& pdu, InFlight& request);
  template <typename Use>
  void for_each(const Pdu& pdu, Use&& use) const {
    for (uint32_t number = pdu.first; number != 0; number = at(number - 1).next_in_pdu_) use(at(number - 1));
  }
  /// All of the PDU is on its way. Once, and before any of its requests is finished.
  void forwarded(const Pdu& pdu, uint64_t at_time);
  /// Room for `count` (<= kMaxDescriptors) descriptors of a request that has none yet; empty when the pool's
  /// bound is reached.
  [[nodiscard]] std::span<BufferDescriptor> descriptors_for(InFlight& request, size_t count);

  /// The final response came: the MessageId is free at once, the storage at the next recycle().
  void finish(InFlight& request);
  void recycle();

  /// Of memory, all told.
  [[nodiscard]] size_t bytes() const {
    return chunks_.size() * sizeof(std::array<InFlight, kChunk>) + index_.size() * sizeof(uint32_t) +
           pooled_ * sizeof(BufferDescriptor);
  }
  /// Called now and then: gives up the blocks of descriptors that no request has.
  void trim();

  [[nodiscard]] size_t size() const { return live_; }

 private:
  static constexpr size_t kChunk = 32;
  static constexpr size_t kBlockClasses = 3;
  static constexpr std::array<size_t, kBlockClasses> kBlockSizes{64, 512, 4096};
  static_assert(kBlockSizes.back() >= kMaxDescriptors);

  [[nodiscard]] size_t home(uint64_t message_id) const;
  [[nodiscard]] InFlight& at(uint32_t slot) const { return (*chunks_[slot / kChunk])[slot % kChunk]; }
  void grow_index();
  void release_block(InFlight& request);

  uint32_t max_requests_;
  uint64_t secret_;
  size_t live_ = 0;
  size_t pooled_ = 0;            // descriptors in all blocks, free ones included
  std::vector<uint32_t> index_;  // linear probing; 0 or slot + 1; size a power of two, at most half full
  std::vector<std::unique_ptr<std::array<InFlight, kChunk>>> chunks_;
  std::vector<uint32_t> free_;
  std::vector<uint32_t> finished_;
  std::array<std::vector<std::unique_ptr<BufferDescriptor[]>>, kBlockClasses> free_blocks_;
};

}  // namespace smbdirect::protocol::smb2
