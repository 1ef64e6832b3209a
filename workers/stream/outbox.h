// SPDX-License-Identifier: MIT
// Bytes queued for a stream socket: pieces that point into slabs, written with sendmsg and never copied.
// Owned by the session that owns the socket; one thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>

#include "shm/base/result.h"
#include "shm/base/unique_fd.h"
#include "workers/memory/charge.h"
#include "workers/memory/ring.h"
#include "workers/memory/slab.h"

namespace smbdirect::workers {

class Outbox {
 public:
  Outbox() = default;
  /// budget: is charged for each piece, beside the slab that it points into.
  explicit Outbox(Budget& budget) : charge_(std::in_place, budget) {}

  /// owner keeps the bytes alive (empty: static memory).
  void push(SlabRef owner, std::span<const std::byte> bytes);
  /// Small bytes copied into the queue (a length word, a rewritten header): at most kInlineBytes.
  static constexpr size_t kInlineBytes = 144;
  void push_copy(std::span<const std::byte> bytes);

  /// A descriptor that travels with the first byte pushed after it (UNIX sockets only).
  void push_descriptor(shm::UniqueFd descriptor);

  enum class Flush : uint8_t { done, blocked };
  /// Writes as much as the socket takes. blocked: wait for writability.
  [[nodiscard]] shm::Result<Flush> flush(int fd);

  [[nodiscard]] bool empty() const { return pieces_.empty(); }
  [[nodiscard]] size_t pieces() const { return pieces_.size(); }
  /// Those that have not gone yet.
  [[nodiscard]] size_t descriptors() const { return descriptors_; }
  [[nodiscard]] uint64_t bytes() const { return bytes_; }
  void clear();
  /// Gives back memory that was not needed since the last call.
  void trim() { pieces_.trim(); }

 private:
  struct Piece {
    SlabRef owner;
    shm::UniqueFd descriptor;  // goes with the first of the bytes
    std::span<const std::byte> bytes;
    uint8_t inline_size = 0;  // > 0: the bytes are inline_bytes
    uint8_t inline_from = 0;
    std::array<std::byte, kInlineBytes> inline_bytes{};
    [[nodiscard]] std::span<const std::byte> view() const {
      return inline_size > 0 ? std::span<const std::byte>(inline_bytes).subspan(inline_from, inline_size)
                             : bytes;
    }
  };
  Piece& add();
  void drop_front();

  std::optional<Charge> charge_;
  Ring<Piece> pieces_{64};
  shm::UniqueFd descriptor_;  // for the next piece
  size_t descriptors_ = 0;
  uint64_t bytes_ = 0;
};

}  // namespace smbdirect::workers
