// SPDX-License-Identifier: MIT
// The content of the benchmark's files: every 4 KiB page is one fixed random page whose first word is a
// stamp of the page's offset and of the generation that wrote it. Misplaced, stale and torn data differ;
// stamping and a stamp check touch one word per page, so they cost nothing next to moving the data.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace smbdirect::tests::bench {

inline constexpr size_t kPageBytes = 4096;

/// Offsets and lengths given to it are multiples of kPageBytes.
class Pattern {
 public:
  Pattern() {
    uint64_t state = 0x736d626469726563;
    for (uint64_t& word : page_) word = next(state);
  }

  /// The whole content.
  void fill(std::span<std::byte> into, uint64_t offset, uint64_t generation) const {
    for (size_t at = 0; at < into.size(); at += kPageBytes) {
      std::memcpy(into.data() + at, page_.data(), kPageBytes);
    }
    stamp(into, offset, generation);
  }
  /// Only the stamps, in memory that fill() has filled before.
  static void stamp(std::span<std::byte> into, uint64_t offset, uint64_t generation) {
    for (size_t at = 0; at < into.size(); at += kPageBytes) {
      const uint64_t word = stamp_of(offset + at, generation);
      std::memcpy(into.data() + at, &word, sizeof(word));
    }
  }
  [[nodiscard]] static bool stamps_match(std::span<const std::byte> data, uint64_t offset,
                                         uint64_t generation) {
    bool same = true;
    for (size_t at = 0; at < data.size(); at += kPageBytes) {
      uint64_t word = 0;
      std::memcpy(&word, data.data() + at, sizeof(word));
      same &= word == stamp_of(offset + at, generation);
    }
    return same;
  }
  /// Every byte.
  [[nodiscard]] bool matches(std::span<const std::byte> data, uint64_t offset, uint64_t generation) const {
    if (!stamps_match(data, offset, generation)) return false;
    const auto* rest = reinterpret_cast<const std::byte*>(page_.data()) + sizeof(uint64_t);
    for (size_t at = 0; at < data.size(); at += kPageBytes) {
      if (std::memcmp(data.data() + at + sizeof(uint64_t), rest, kPageBytes - sizeof(uint64_t)) != 0) {
        return false;
      }
    }
    return true;
  }

 private:
  /// splitmix64.
  static uint64_t next(uint64_t& state) {
    state += 0x9e3779b97f4a7c15;
    uint64_t z = state;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }
  static uint64_t stamp_of(uint64_t offset, uint64_t generation) {
    uint64_t state = offset ^ (generation << 44);
    return next(state);
  }

  std::array<uint64_t, kPageBytes / sizeof(uint64_t)> page_{};
};

}  // namespace smbdirect::tests::bench
