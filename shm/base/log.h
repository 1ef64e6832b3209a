// SPDX-License-Identifier: MIT
// The log, the one global of each process. Lines go to stderr: with "<N>" priorities when the journal reads
// them (JOURNAL_STREAM names our stderr), with a time stamp otherwise. One write(2) per line, so lines of
// several processes never mix. Writing never blocks: a line for which there is no room is dropped and
// counted, and so are lines beyond a rate that normal operation does not reach, because clients can cause
// lines; the next line that is written says how many. Text from outside is made printable. Not for the hot
// path. Single-threaded use after configure().
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

namespace smbdirect::shm::log {

enum class Level : uint8_t { error, warning, notice, info, debug };

[[nodiscard]] std::string_view level_name(Level level);
[[nodiscard]] std::optional<Level> level_from_name(std::string_view name);

/// tag stands before each line: "smbdirectd", "worker 2".
void configure(Level level, std::string tag);
[[nodiscard]] bool enabled(Level level);

/// Lines of one level that may be written at once, and per second over time (debug: any number).
inline constexpr uint64_t kBurst = 5000;
inline constexpr uint64_t kPerSecond = 50;

[[gnu::format(printf, 2, 3)]] void write(Level level, const char* format, ...);

/// Lets one line through per key and interval, and says how many were held back meanwhile. Bounded: the
/// oldest keys are forgotten beyond max_keys.
class RateLimit {
 public:
  RateLimit(uint64_t interval_ms, size_t max_keys);
  /// The number of lines held back since the last one let through, or nothing: hold this one back too.
  [[nodiscard]] std::optional<uint64_t> pass(const std::string& key, uint64_t now_ms);

 private:
  struct State {
    uint64_t last_ms{};
    uint64_t held_back{};
  };
  uint64_t interval_ms_;
  size_t max_keys_;
  std::unordered_map<std::string, State> states_;
};

/// Lines that others can cause as often as they like, clients or processes: one per key and interval, with
/// how many were held back.
class Limited {
 public:
  explicit Limited(uint64_t interval_ms = 10'000, size_t max_keys = 256) : limit_(interval_ms, max_keys) {}
  [[gnu::format(printf, 5, 6)]] void write(Level level, const std::string& key, uint64_t now_ms,
                                           const char* format, ...);

 private:
  RateLimit limit_;
};

}  // namespace smbdirect::shm::log
