// SPDX-License-Identifier: MIT
// The SENDs, RDMA WRITEs and RDMA READs of one connection: what waits for ring(), what is on the queue pair,
// and READs that wait for their turn. Owned by the endpoint; the loop's thread only. Memory is allocated as
// work is added and kept while it is used; trim() frees the rest.
//
// Completions: only the last of a chain and some in between are signalled, and every READ. A signalled SEND
// or WRITE completes the SENDs and WRITEs before it, but no READ: some devices (siw) complete a SEND before
// the data of an earlier READ has arrived.
#pragma once

#include <cstdint>
#include <expected>
#include <span>
#include <type_traits>
#include <vector>

#include "workers/fabric/fabric.h"
#include "workers/fabric/verbs/device.h"
#include "workers/fabric/verbs/queue_pair.h"
#include "workers/fabric/verbs/read_sink.h"
#include "workers/memory/fixed_ring.h"
#include "workers/memory/ring.h"

namespace smbdirect::workers::fabric::verbs {

/// A SEND or an RDMA WRITE, but for its pieces.
struct Message {
  uint64_t id{};
  Op op{};
  bool invalidate{};
  RemoteMemory to;  // write: where; send with invalidate: the token
};

class SendQueue {
 public:
  /// Signalled at the latest after so many that are not.
  static constexpr uint32_t kSignalEvery = 32;

  /// work: SENDs, WRITEs and READs under way at once; reads: parts of READs on the queue pair.
  SendQueue(uint32_t work, uint32_t reads);

  struct Limits {
    uint32_t work{};
    uint32_t reads{};
    uint32_t pieces{};
    uint32_t inlined{};
    uint32_t max_message{};
    const ReadSink* sink{};  // none: READs go where they are wanted
  };
  void set_limits(const Limits& limits) { limits_ = limits; }
  void set_reads(uint32_t reads) { limits_.reads = reads; }

  [[nodiscard]] uint32_t room() const { return limits_.work > in_use_ ? limits_.work - in_use_ : 0; }
  [[nodiscard]] std::expected<void, PostError> add(const Message& message, std::span<const Sge> pieces,
                                                   MrTable& domain);
  [[nodiscard]] std::expected<void, PostError> add_read(uint64_t id, const Sge& into,
                                                        const RemoteMemory& from, MrTable& domain);
  /// READs that were added may start from now on.
  void release_reads() { reads_released_ = static_cast<uint32_t>(reads_.size()); }
  /// Posts what was added since, and the READs whose turn it is, as one chain. 0 or an errno; what was not
  /// posted is forgotten then.
  [[nodiscard]] int post(const Device::Seat& seat, ibv_qp& qp);

  /// A completion arrived. Successful: what it completes is added to `done`. Failed: only taken off the
  /// books. The error says what is wrong with the device.
  [[nodiscard]] std::expected<void, const char*> complete(const WorkId& work, bool success, Traffic& traffic,
                                                          std::vector<Completion>& done);
  /// The completions made so far are being delivered: their places are free.
  void delivered() {
    in_use_ -= undelivered_;
    undelivered_ = 0;
  }

  /// Nothing waits and nothing is on the queue pair.
  [[nodiscard]] bool idle() const { return pending_.empty() && reads_.empty() && outstanding() == 0; }
  void trim() {
    pending_.trim();
    posted_.trim();
    reads_.trim();
  }
  [[nodiscard]] bool reading() const { return !reads_.empty(); }
  /// SENDs and WRITEs wait, here or for the peer's acknowledgement.
  [[nodiscard]] bool sending() const { return !pending_.empty() || !posted_.empty(); }
  /// Parts of READs that have come back since the beginning.
  [[nodiscard]] uint64_t parts_read() const { return parts_read_; }
  /// Work requests on the queue pair that have not come back.
  [[nodiscard]] uint32_t outstanding() const { return static_cast<uint32_t>(posted_.size()) + parts_.size(); }

 private:
  // Without initial values: the queues' memory is touched when it is used, not when it is made.
  struct Pending {
    uint64_t id;
    Op op;
    bool invalidate;
    uint32_t token;
    uint64_t offset;
    uint64_t bytes;
    uint32_t count;
    ibv_sge pieces[kMaxPieces];
  };
  struct Posted {
    uint64_t id;
    Op op;
    uint32_t sequence;
    uint64_t bytes;
  };
  struct Read {
    uint64_t id;
    std::byte* into;
    uint32_t length;
    uint32_t local_key;
    uint64_t offset;
    uint32_t token;
    uint32_t asked;  // bytes that parts were posted for
  };
  struct Part {
    uint32_t sequence;
    uint32_t slot;
    std::byte* wanted_at;
    ibv_sge into;
    bool last;
  };

  static_assert(std::is_trivially_default_constructible_v<Pending> &&
                std::is_trivially_default_constructible_v<Posted> &&
                std::is_trivially_default_constructible_v<Read> &&
                std::is_trivially_default_constructible_v<Part>);

  unsigned build_messages(const Device::Seat& seat, std::span<ibv_send_wr> chain);
  unsigned build_reads(const Device::Seat& seat, std::span<ibv_send_wr> chain);
  bool next_part(Part& part, RemoteMemory& from);
  void complete_messages(uint32_t sequence, bool success, Traffic& traffic, std::vector<Completion>& done);
  void complete_part(Traffic& traffic, std::vector<Completion>& done);

  Limits limits_;
  uint32_t in_use_ = 0;       // added, and not yet delivered
  uint32_t undelivered_ = 0;  // ...of which completed
  Ring<Pending> pending_;
  Ring<Posted> posted_;
  Ring<Read> reads_;             // in order; the oldest may be on the queue pair, in part or whole
  uint32_t reads_begun_ = 0;     // the oldest so many have all their parts posted
  uint32_t reads_released_ = 0;  // the oldest so many may be posted
  FixedRing<Part> parts_;        // a chain of work requests points into it
  uint32_t next_slot_ = 0;
  uint32_t next_sequence_ = 0;
  uint32_t unsignalled_ = 0;
  uint64_t parts_read_ = 0;
};

}  // namespace smbdirect::workers::fabric::verbs
