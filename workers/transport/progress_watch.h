// SPDX-License-Identifier: MIT
// What the peer of one connection owes (data, receiving, the rest of a message), and since when it has made
// no progress with it. A slow peer is not a dead one: any progress of a kind restarts its time. Owned by the
// connection's Transport; one thread; reads no clock.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

namespace smbdirect::workers {

enum class Owed : uint8_t {
  read_data,  // of RDMA READs that were posted
  taking,     // of what we SEND and WRITE
  message,    // the rest of an upper-layer message that has begun
};
inline constexpr size_t kOwedKinds = 3;

/// "the peer has sent no data of RDMA READs", to stand before " for 60 s".
[[nodiscard]] const char* owed_text(Owed what);

class ProgressWatch {
 public:
  static constexpr uint64_t kNever = UINT64_MAX;
  /// timeout_ms: kNever for one that waits for ever. quantum: how far a mark must have moved to count.
  explicit ProgressWatch(uint64_t timeout_ms, uint64_t quantum = 1)
      : timeout_ms_(timeout_ms), quantum_(quantum) {}

  /// is: whether it is owed now. mark: a number that grows with every progress.
  void observe(Owed what, bool is, uint64_t mark, uint64_t now_ms) {
    Kind& kind = kinds_[size_t(what)];
    if (!is) {
      kind.since_ms = kNever;
    } else if (kind.since_ms == kNever || mark - kind.mark >= quantum_) {
      kind.since_ms = now_ms;
      kind.mark = mark;
    }
  }
  /// Since when the longest owed has not moved; kNever: nothing is owed.
  [[nodiscard]] uint64_t since() const;
  [[nodiscard]] std::optional<Owed> overdue(uint64_t now_ms) const;

 private:
  struct Kind {
    uint64_t mark = 0;
    uint64_t since_ms = kNever;
  };

  uint64_t timeout_ms_;
  uint64_t quantum_;
  std::array<Kind, kOwedKinds> kinds_;
};

}  // namespace smbdirect::workers
