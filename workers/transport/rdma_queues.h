// SPDX-License-Identifier: MIT
// The RDMA READs and WRITEs of one connection: requested, posted as the send queue has room, and completed in
// the order of the requests. Owned by the connection's Transport; one thread; its contents die with the
// connection.
//
// They leave room in the send queue for SENDs: credit grants, keepalives and responses must never wait for a
// peer that does not answer a READ.
#pragma once

#include <cstdint>
#include <expected>
#include <span>

#include "workers/fabric/fabric.h"
#include "workers/memory/charge.h"
#include "workers/memory/ring.h"
#include "workers/memory/slab.h"

namespace smbdirect::workers {

/// Pieces that one work request gathers here at most, whatever the device takes.
inline constexpr uint32_t kMaxSge = 16;

/// Of so many work requests, those that READs and WRITEs leave to SENDs.
[[nodiscard]] constexpr uint32_t reserved_for_sends(uint32_t max_send_work) {
  constexpr uint32_t kMost = 256;  // as many SENDs as credits are usually granted
  const uint32_t quarter = max_send_work / 4;
  return quarter < kMost ? (quarter > 0 ? quarter : 1) : kMost;
}

class RdmaQueues {
 public:
  /// budget: is charged for what waits and what is under way, beside the memory itself.
  explicit RdmaQueues(Budget& budget) : charge_(budget) {}

  /// `owner` keeps the bytes alive until the WRITE is done.
  void write(SlabRef owner, std::span<const std::byte> bytes, fabric::RemoteMemory to);
  /// The caller keeps `into`, memory of this key, alive until the READ is done.
  void read(std::span<std::byte> into, uint32_t key, fabric::RemoteMemory from, uint64_t cookie);

  /// What there is room for, READs first. Neighbours in the peer's memory travel as one WRITE. An error is
  /// what the endpoint said of the first that it did not take, which stays in its queue. at_time: by the
  /// caller's clock, for those below.
  std::expected<void, fabric::PostError> post(fabric::Endpoint& endpoint, uint64_t at_time = 0);

  // --- completions, in the order of posting ---
  /// When the next WRITE and the next READ to be done were posted; only while there is one.
  [[nodiscard]] uint64_t write_posted_at() const { return writes_in_flight_.front().at_time; }
  [[nodiscard]] uint64_t read_posted_at() const { return reads_in_flight_.front().at_time; }
  /// How many of the WRITEs asked for are done with it.
  uint32_t write_done();
  /// The READ's cookie.
  uint64_t read_done();

  [[nodiscard]] uint32_t writes_outstanding() const { return uint32_t(writes_in_flight_.size()); }
  /// READs and WRITEs that are done, ever.
  [[nodiscard]] uint64_t reads_done() const { return reads_done_; }
  [[nodiscard]] uint64_t writes_done() const { return writes_done_; }
  /// None waits to be posted.
  [[nodiscard]] bool all_posted() const { return writes_.empty() && reads_.empty(); }
  [[nodiscard]] uint32_t reads_outstanding() const { return uint32_t(reads_in_flight_.size()); }
  /// WRITEs by number: a message whose turn is after the first n of them may go when n are posted.
  [[nodiscard]] uint64_t writes_requested() const { return writes_requested_; }
  [[nodiscard]] uint64_t writes_posted() const { return writes_posted_; }

  void trim() {
    reads_.trim();
    reads_in_flight_.trim();
    writes_.trim();
    writes_in_flight_.trim();
    write_references_.trim();
  }

 private:
  struct Write {
    SlabRef owner;
    std::span<const std::byte> bytes;
    fabric::RemoteMemory to;
  };
  struct Read {
    std::span<std::byte> into;
    uint32_t key{};
    fabric::RemoteMemory from;
    uint64_t cookie{};
  };

  struct WriteInFlight {
    uint32_t references{};  // how many of write_references_ it has
    uint64_t at_time{};
  };
  struct ReadInFlight {
    uint64_t cookie{};
    uint64_t at_time{};
  };

  // What an entry and the traces of it in the other rings take at most, doubling included.
  static constexpr uint64_t kWriteBytes = 2 * (sizeof(Write) + sizeof(WriteInFlight) + sizeof(SlabRef));
  static constexpr uint64_t kReadBytes = 2 * (sizeof(Read) + sizeof(ReadInFlight));

  std::expected<void, fabric::PostError> post_reads(fabric::Endpoint& endpoint, uint64_t at_time);
  std::expected<void, fabric::PostError> post_writes(fabric::Endpoint& endpoint, uint64_t at_time);

  Charge charge_;
  Ring<Read> reads_;
  Ring<ReadInFlight> reads_in_flight_;
  Ring<Write> writes_;
  Ring<WriteInFlight> writes_in_flight_;
  Ring<SlabRef> write_references_;
  uint64_t writes_requested_ = 0;
  uint64_t writes_posted_ = 0;
  uint64_t reads_done_ = 0;
  uint64_t writes_done_ = 0;
};

}  // namespace smbdirect::workers
