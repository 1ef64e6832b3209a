// SPDX-License-Identifier: MIT
// The upper-layer messages of one connection on their way out: begun with their length, their bytes appended
// as they come, taken off as the payload of fragments, and kept alive until each fragment's SEND is done.
// Owned by the connection's Transport; one thread; its contents die with the connection.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "workers/fabric/fabric.h"
#include "workers/memory/charge.h"
#include "workers/memory/ring.h"
#include "workers/memory/slab.h"

namespace smbdirect::workers {

class MessageQueue {
 public:
  struct Message {
    uint64_t total{};
    uint64_t left{};     // not yet taken into fragments
    uint64_t barrier{};  // RDMA WRITEs (by number) that must be posted first
    uint32_t tokens{};   // to be invalidated yet, each by a fragment of its own
    bool begun{};        // the engine knows of it
  };

  /// budget: is charged for what is queued, beside the memory itself.
  explicit MessageQueue(Budget& budget) : charge_(budget) {}

  // --- in ---
  /// total > 0, and at least as many bytes as there are tokens.
  void begin(uint64_t total, uint64_t barrier, std::span<const uint32_t> invalidate);
  /// The next bytes of the message begun last. `owner` keeps them alive (empty: static memory).
  void append(SlabRef owner, std::span<const std::byte> bytes);

  [[nodiscard]] bool empty() const { return messages_.empty(); }
  [[nodiscard]] size_t size() const { return messages_.size(); }
  /// The message whose turn it is; none: nullptr.
  [[nodiscard]] Message* front() { return messages_.empty() ? nullptr : &messages_.front(); }

  // --- out ---
  /// Bytes of the front message that are here.
  [[nodiscard]] uint64_t ready() const;
  /// The most payload its next fragment may have: what `most_pieces` can gather, and little enough that every
  /// token gets a fragment of its own.
  [[nodiscard]] uint32_t fragment_cap(uint32_t most_pieces) const;

  struct Taken {
    uint32_t pieces{};              // of `into`
    std::optional<uint32_t> token;  // to be invalidated with it
  };
  /// The payload of one SEND, of ready() and fragment_cap() bytes at most; 0: a SEND that carries none. A
  /// message whose last bytes these are leaves the queue. Their memory stays until sent().
  Taken take(uint32_t payload, std::span<fabric::Sge> into);
  /// The SEND of the oldest take() is done.
  void sent();

  void trim();

 private:
  struct Piece {
    SlabRef owner;
    std::span<const std::byte> bytes;
  };

  Charge charge_;  // for messages_, pieces_ and tokens_
  Ring<Message> messages_;
  Ring<Piece> pieces_;
  uint64_t pieces_bytes_ = 0;  // of all messages
  Ring<uint32_t> tokens_;
  Ring<uint32_t> sends_in_flight_;  // how many of send_references_ each keeps until it is done
  Ring<SlabRef> send_references_;
};

}  // namespace smbdirect::workers
