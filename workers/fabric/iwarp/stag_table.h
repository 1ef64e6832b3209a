// SPDX-License-Identifier: MIT
// The STags of one RDMAP stream: which memory the peer may touch, how, and for how long. Each stream has a
// table of its own, so a tag is bound to its stream by construction; a tag of another stream is unknown
// here. Tags and tagged offsets are random: a peer cannot guess one it was not given.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

namespace smbdirect::workers::fabric::iwarp {

/// Fills the span with bytes nobody can predict. Tests pass a deterministic one.
using EntropySource = void (*)(std::span<std::byte>);
/// getrandom(2); retries until it is filled.
void system_entropy(std::span<std::byte> out);

enum class StagUse : uint8_t {
  read_sink,     // takes the Read Response of one request of ours and nothing else
  remote_read,   // the peer may read it
  remote_write,  // the peer may write it
};

struct Stag {
  uint32_t stag{};  // never 0
  StagUse use{};
  std::byte* memory{};
  uint64_t length{};
  uint64_t offset{};  // tagged offset of the first byte; offset + length does not wrap
};

enum class RangeFault : uint8_t { none, wrap, bounds };

/// Whether [offset, offset + length) lies inside the tag's memory.
RangeFault check_range(const Stag& tag, uint64_t offset, uint64_t length);

class StagTable {
 public:
  /// Has no memory before the first tag, and grows up to kMostStags.
  explicit StagTable(EntropySource entropy) : entropy_(entropy) {}

  static constexpr uint32_t kMostStags = 1U << 16;

  /// Null when kMostStags are live. The pointer is good until the next add or remove.
  const Stag* add(StagUse use, std::span<std::byte> memory);
  [[nodiscard]] const Stag* find(uint32_t stag) const;
  /// False when it was not there.
  bool remove(uint32_t stag);
  [[nodiscard]] uint32_t size() const { return count_; }
  /// Gives its memory back when no tag is live.
  void trim() {
    if (count_ == 0) slots_.reset();
  }

 private:
  [[nodiscard]] uint32_t slot_of(uint32_t stag) const;
  void grow();
  uint32_t random();

  EntropySource entropy_;
  std::array<uint32_t, 64> pool_{};  // one system call feeds many tags
  size_t pool_left_ = 0;
  uint32_t count_ = 0;
  uint32_t mask_ = 0;
  std::unique_ptr<Stag[]> slots_;  // open addressing; stag 0 marks a free slot
};

}  // namespace smbdirect::workers::fabric::iwarp
