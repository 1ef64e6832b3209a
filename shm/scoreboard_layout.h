// SPDX-License-Identifier: MIT
// How a scoreboard lies in its shared memory (scoreboard.h): a header with the worker's summary, then a row
// for each connection. Shared by the worker, which writes it, and those who read it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "shm/scoreboard.h"

namespace smbdirect::shm {

/// The summary's words after its sequence word.
namespace summary_word {
inline constexpr size_t kPhase = 0;
inline constexpr size_t kConnections = 1;
inline constexpr size_t kCounterValues = kConnections + kConnectionPhases.size();
inline constexpr size_t kLatencies = kCounterValues + kCounters;
inline constexpr size_t kWords = kLatencies + sizeof(Latencies) / sizeof(uint64_t);
}  // namespace summary_word

/// A row's words after its sequence word. kStatus: 0 when free, else bit 0, the area's state in bits 1-7, the
/// phase in bits 8-15, the ports (peer, upstream local, upstream remote) from bit 16 on.
namespace row_word {
inline constexpr size_t kStatus = 0;
inline constexpr size_t kNumber = 1;
inline constexpr size_t kPeer = 2;
inline constexpr size_t kGuid = 4;
inline constexpr size_t kSince = 6;
inline constexpr size_t kCredits = 7;  // receive in the lower half, send in the upper
inline constexpr size_t kRequests = 8;
inline constexpr size_t kDirect = 9;  // its state in the lower half, its open files in the upper
inline constexpr size_t kDirectReads = 10;
inline constexpr size_t kDirectWrites = 11;
inline constexpr size_t kBytes = 12;
inline constexpr size_t kWords = kBytes + kTransfers.size();
}  // namespace row_word

struct RowWords {
  uint64_t sequence;
  std::array<uint64_t, row_word::kWords> words;
  std::array<uint64_t, 3> unused;
};
static_assert(sizeof(RowWords) == 192 && offsetof(RowWords, words) == 8);  // three cache lines

struct ScoreboardHeader {
  static constexpr uint64_t kMagic = 0x5243'5344'424d'5344;  // "DSMBDSCR"
  static constexpr uint32_t kVersion = 4;

  uint64_t magic;
  uint32_t version;
  uint32_t header_size;
  uint32_t row_count;
  uint32_t row_size;
  uint32_t counter_count;
  uint32_t slot;
  uint32_t generation;
  uint32_t pid;
  uint64_t counter_digest;  // of the names of counters and operations: another table is another version
  uint64_t heartbeat_ms;    // a word of its own, to be written often
  std::array<uint64_t, 8> unused;
  uint64_t sequence;
  std::array<uint64_t, summary_word::kWords> summary;
};
inline constexpr size_t kScoreboardHeaderSize = 4096;
static_assert(std::is_trivially_copyable_v<ScoreboardHeader> && std::is_standard_layout_v<ScoreboardHeader>);
static_assert(std::is_trivially_copyable_v<RowWords> && std::is_standard_layout_v<RowWords>);
static_assert(offsetof(ScoreboardHeader, version) == 8 && offsetof(ScoreboardHeader, counter_digest) == 40);
static_assert(offsetof(ScoreboardHeader, heartbeat_ms) == 48 && offsetof(ScoreboardHeader, sequence) == 120);
static_assert(sizeof(ScoreboardHeader) <= kScoreboardHeaderSize);

/// A reader takes no more: what a worker that lies shows must not cost the supervisor its time.
inline constexpr size_t kMaxScoreboardRows = kScoreboardRows;
[[nodiscard]] constexpr size_t scoreboard_bytes(size_t rows) {
  return kScoreboardHeaderSize + rows * sizeof(RowWords);
}
[[nodiscard]] constexpr size_t row_index(size_t row) {
  return (kScoreboardHeaderSize + row * sizeof(RowWords)) / sizeof(uint64_t);
}

[[nodiscard]] uint64_t counter_digest();

}  // namespace smbdirect::shm
