// SPDX-License-Identifier: MIT
#include "shm/log.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <span>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <utility>

namespace smbdirect::shm::log {
namespace {

struct LevelRow {
  Level level;
  std::string_view name;
  int syslog_priority;  // sd-daemon(3)
};
constexpr std::array<LevelRow, 5> kLevels{{{Level::error, "error", 3},
                                           {Level::warning, "warning", 4},
                                           {Level::notice, "notice", 5},
                                           {Level::info, "info", 6},
                                           {Level::debug, "debug", 7}}};

struct Logger {
  Level level = Level::info;
  std::string tag = "smbdirectd";
  bool journal = false;
};
Logger& logger() {
  static Logger instance;
  return instance;
}

const LevelRow& row(Level level) { return kLevels.at(std::min<size_t>(size_t(level), kLevels.size() - 1)); }

/// Does the journal read our stderr? JOURNAL_STREAM is "device:inode" of the stream it opened
/// (systemd.exec(5)); a shell redirection inside the service makes it a stale hint, so it is compared.
bool journal_reads_stderr() {
  const char* stream = std::getenv("JOURNAL_STREAM");
  if (stream == nullptr) return false;
  const std::string_view text(stream);
  const size_t colon = text.find(':');
  if (colon == std::string_view::npos) return false;
  uint64_t device = 0, inode = 0;
  const char* const middle = text.data() + colon;
  const char* const end = text.data() + text.size();
  if (std::from_chars(text.data(), middle, device).ptr != middle) return false;
  if (std::from_chars(middle + 1, end, inode).ptr != end) return false;
  struct stat status{};
  return fstat(STDERR_FILENO, &status) == 0 && status.st_dev == device && status.st_ino == inode;
}

/// "2026-11-05 12:34:56.789 worker 2[4711] warning: " or "<4>worker 2: ".
size_t prefix(std::span<char> out, const Logger& log, const LevelRow& level) {
  int length = 0;
  if (log.journal) {
    length = std::snprintf(out.data(), out.size(), "<%d>%s: ", level.syslog_priority, log.tag.c_str());
  } else {
    timespec now{};
    clock_gettime(CLOCK_REALTIME, &now);
    tm local{};
    localtime_r(&now.tv_sec, &local);
    std::array<char, 32> stamp{};
    strftime(stamp.data(), stamp.size(), "%Y-%m-%d %H:%M:%S", &local);
    length = std::snprintf(out.data(), out.size(), "%s.%03ld %s[%d] %s: ", stamp.data(),
                           now.tv_nsec / 1'000'000, log.tag.c_str(), int(getpid()), level.name.data());
  }
  return length < 0 ? 0 : std::min(size_t(length), out.size() - 1);
}

/// One line stays one line: texts quote names and configuration values that others chose.
void neutralise(std::span<char> text) {
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  }
}

}  // namespace

std::string_view level_name(Level level) { return row(level).name; }

std::optional<Level> level_from_name(std::string_view name) {
  for (const LevelRow& candidate : kLevels) {
    if (candidate.name == name) return candidate.level;
  }
  return std::nullopt;
}

void configure(Level level, std::string tag) {
  logger().level = level;
  logger().tag = std::move(tag);
  logger().journal = journal_reads_stderr();
}

bool enabled(Level level) { return level <= logger().level; }

void write(Level level, const char* format, ...) {
  if (!enabled(level)) return;
  const int saved_errno = errno;
  // Below PIPE_BUF, so that one write(2) to a pipe is never split between processes.
  std::array<char, 4096> line;
  const size_t start = prefix(std::span(line).first(512), logger(), row(level));
  const size_t room = line.size() - start - 1;  // the newline
  va_list arguments;
  va_start(arguments, format);
  const int wanted = std::vsnprintf(line.data() + start, room, format, arguments);
  va_end(arguments);
  size_t length = start;
  if (wanted > 0) length += std::min(size_t(wanted), room - 1);
  if (wanted > 0 && size_t(wanted) >= room) std::memcpy(line.data() + length - 3, "...", 3);
  neutralise(std::span(line).first(length));
  line[length++] = '\n';
  // A log that cannot be written has nowhere to be reported.
  while (::write(STDERR_FILENO, line.data(), length) < 0 && errno == EINTR) {
  }
  errno = saved_errno;
}

RateLimit::RateLimit(uint64_t interval_ms, size_t max_keys)
    : interval_ms_(interval_ms), max_keys_(max_keys) {}

std::optional<uint64_t> RateLimit::pass(const std::string& key, uint64_t now_ms) {
  if (const auto found = states_.find(key); found != states_.end()) {
    State& state = found->second;
    if (now_ms - state.last_ms < interval_ms_) {
      ++state.held_back;
      return std::nullopt;
    }
    state.last_ms = now_ms;
    return std::exchange(state.held_back, 0);
  }
  if (states_.size() >= std::max<size_t>(max_keys_, 1)) {
    states_.erase(std::min_element(states_.begin(), states_.end(), [](const auto& a, const auto& b) {
      return a.second.last_ms < b.second.last_ms;
    }));
  }
  states_.emplace(key, State{now_ms, 0});
  return 0;
}

}  // namespace smbdirect::shm::log
