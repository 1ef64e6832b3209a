// SPDX-License-Identifier: MIT
// The contents of wr_id, which a completion returns: the connection, the queue, and the place in that queue.
// A completion's opcode and byte count are undefined when it failed, and completions of a connection that is
// gone may still be in a completion queue; so everything needed is in here, and the seat's generation
// identifies late completions. Plain values.
#pragma once

#include <cstdint>

namespace smbdirect::workers::fabric::verbs {

enum class WorkKind : uint8_t {
  message,  // a SEND or an RDMA WRITE
  read,     // an RDMA READ, or a part of one
  receive,
};

struct WorkId {
  static constexpr unsigned kSequenceBits = 30;
  static constexpr uint32_t kSequenceMask = (1U << kSequenceBits) - 1;

  uint16_t seat{};
  uint16_t generation{};
  WorkKind kind{};
  uint32_t sequence{};  // of its queue, modulo 2^30

  [[nodiscard]] constexpr uint64_t pack() const {
    return uint64_t{seat} << 48U | uint64_t{generation} << 32U |
           uint64_t{static_cast<uint8_t>(kind)} << kSequenceBits | (sequence & kSequenceMask);
  }
  [[nodiscard]] static constexpr WorkId unpack(uint64_t wr_id) {
    return {.seat = static_cast<uint16_t>(wr_id >> 48U),
            .generation = static_cast<uint16_t>(wr_id >> 32U),
            .kind = static_cast<WorkKind>(wr_id >> kSequenceBits & 3U),
            .sequence = static_cast<uint32_t>(wr_id) & kSequenceMask};
  }
  /// Whether a was posted before b or is b. Far fewer than 2^29 are ever outstanding.
  [[nodiscard]] static constexpr bool not_after(uint32_t a, uint32_t b) {
    return ((b - a) & kSequenceMask) < (1U << (kSequenceBits - 1));
  }
};

}  // namespace smbdirect::workers::fabric::verbs
