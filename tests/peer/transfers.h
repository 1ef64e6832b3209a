// SPDX-License-Identifier: MIT
// The RDMA operations of one channel that are under way, and the parts of its area they use. Owned by the
// channel's Relay, one thread; all of it ends with the process, and the worker ends the operations.
//
// The area is halved: what comes from the client waits there for smbd to take it, what comes from smbd waits
// for the client's RDMA. With one store for both, an smbd that takes nothing before its responses are read
// would wait for itself.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <unordered_map>
#include <vector>

#include "area_allocator.h"
#include "handles.h"
#include "protocol/smb2/descriptor.h"

namespace smbdirect::tests::peer {

namespace smb2 = protocol::smb2;

/// What a channel has carried.
struct Totals {
  uint64_t pdus_in{};  // from the client
  uint64_t pdus_out{};
  uint64_t reads{};  // RDMA READs that are complete
  uint64_t read_bytes{};
  uint64_t writes{};
  uint64_t write_bytes{};
};

/// Walks a list of client memory front to back, in slices that one operation can have.
class DescriptorCursor {
 public:
  DescriptorCursor() = default;
  explicit DescriptorCursor(std::span<const smb2::BufferDescriptor> memory) : memory_(memory) {}
  /// Fills `into` with the next `want` bytes, or as many as SMBDIRECT_MAX_DESCRIPTORS pieces hold. How many.
  size_t take(size_t want, std::vector<smbdirect_descriptor>& into);

 private:
  std::span<const smb2::BufferDescriptor> memory_;
  uint32_t used_ = 0;  // of the first
};

class Transfers {
 public:
  using Region = AreaAllocator::Region;
  using Done = std::move_only_function<void()>;

  Transfers(smbdirect_channel& channel, Totals& totals);

  [[nodiscard]] AreaAllocator& fetched() { return fetched_; }  // client -> smbd
  [[nodiscard]] AreaAllocator& placed() { return placed_; }    // smbd -> client
  [[nodiscard]] std::span<std::byte> bytes(const Region& region) const;
  /// The most that one operation is to move: some of them then overlap with smbd's socket.
  [[nodiscard]] size_t largest() const;

  /// Client memory -> region. False: there are too many operations, try again after a DONE. `done` is called
  /// when the data is there.
  [[nodiscard]] Outcome<bool> read(const Region& region, std::span<const smbdirect_descriptor> from,
                                   Done done);
  /// Region -> client memory; the region is moved from only on success, and free again at DONE.
  [[nodiscard]] Outcome<bool> write(Region& region, std::span<const smbdirect_descriptor> to);

  /// An event DONE.
  [[nodiscard]] Outcome<> on_done(uint64_t id);
  [[nodiscard]] bool under_way() const { return !waiting_.empty(); }

 private:
  smbdirect_channel& channel_;
  Totals& totals_;
  std::span<std::byte> area_;
  AreaAllocator fetched_;
  AreaAllocator placed_;
  uint64_t next_id_ = 1;
  std::unordered_map<uint64_t, Done> waiting_;
};

}  // namespace smbdirect::tests::peer
