// SPDX-License-Identifier: MIT
#include "shm/base/log.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <poll.h>
#include <span>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <utility>

#include "shm/base/printable.h"

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

/// Of one level.
struct Budget {
  uint64_t left = kBurst * 1000;  // a millisecond brings kPerSecond
  uint64_t at_ms = 0;
  uint64_t held_back = 0;
};

struct Logger {
  Level level = Level::info;
  std::string tag = "smbdirectd";
  bool journal = false;
  bool socket = false;
  std::array<Budget, kLevels.size()> budgets{};
  uint64_t dropped = 0;  // nobody read
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

/// A pipe or a terminal is ours and others' alike: an opening of our own lets us not wait for its reader
/// without telling theirs.
void stop_waiting() {
  struct stat status{};
  const int flags = fcntl(STDERR_FILENO, F_GETFL);
  if (flags < 0 || (flags & O_NONBLOCK) != 0 || fstat(STDERR_FILENO, &status) != 0) return;
  if (!S_ISFIFO(status.st_mode) && !(S_ISCHR(status.st_mode) && isatty(STDERR_FILENO) == 1)) return;
  const int own = open("/proc/self/fd/2", O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
  if (own < 0) return;  // not ours to open: what poll says has to do
  dup2(own, STDERR_FILENO);
  close(own);
}

/// False: it found no room. A log that cannot be written at all has nowhere to be reported.
bool put(const Logger& log, std::span<const char> line) {
  for (;;) {
    pollfd ready{.fd = STDERR_FILENO, .events = POLLOUT, .revents = 0};
    if (poll(&ready, 1, 0) == 0) return false;
    const ssize_t sent = log.socket
                             ? send(STDERR_FILENO, line.data(), line.size(), MSG_DONTWAIT | MSG_NOSIGNAL)
                             : ::write(STDERR_FILENO, line.data(), line.size());
    if (sent < 0 && errno == EINTR) continue;
    return sent >= 0 || (errno != EAGAIN && errno != EWOULDBLOCK);
  }
}

uint64_t monotonic_ms() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return uint64_t(now.tv_sec) * 1000 + uint64_t(now.tv_nsec) / 1'000'000;
}

bool within_budget(Budget& budget) {
  const uint64_t now = monotonic_ms();
  const uint64_t passed = std::min<uint64_t>(now - budget.at_ms, 3'600'000);
  budget.left = std::min(kBurst * 1000, budget.left + passed * kPerSecond);
  budget.at_ms = now;
  if (budget.left < 1000) {
    ++budget.held_back;
    return false;
  }
  budget.left -= 1000;
  return true;
}

/// What is missing before this line.
std::string gap(Logger& log, Budget& budget) {
  std::string text;
  if (log.dropped > 0) {
    text = "[" + std::to_string(log.dropped) +
           " lines before this one were dropped because the log could not be written] ";
  }
  if (budget.held_back > 0) {
    text += "[" + std::to_string(budget.held_back) +
            " lines of this level were held back because there were more than " + std::to_string(kPerSecond) +
            " per second] ";
  }
  return text;
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
  struct stat status{};
  logger().socket = fstat(STDERR_FILENO, &status) == 0 && S_ISSOCK(status.st_mode);
  stop_waiting();
}

bool enabled(Level level) { return level <= logger().level; }

void write(Level level, const char* format, ...) {
  if (!enabled(level)) return;
  const int saved_errno = errno;
  Logger& log = logger();
  Budget& budget = log.budgets.at(size_t(row(level).level));
  if (level != Level::debug && !within_budget(budget)) return;
  // Below PIPE_BUF, so that one write(2) to a pipe is never split between processes.
  std::array<char, 4096> line;
  size_t start = prefix(std::span(line).first(512), log, row(level));
  const std::string missing = gap(log, budget);
  std::ranges::copy(missing, line.begin() + ptrdiff_t(start));
  start += missing.size();
  const size_t room = line.size() - start - 1;  // the newline
  va_list arguments;
  va_start(arguments, format);
  const int wanted = std::vsnprintf(line.data() + start, room, format, arguments);
  va_end(arguments);
  size_t length = start;
  if (wanted > 0) length += std::min(size_t(wanted), room - 1);
  if (wanted > 0 && size_t(wanted) >= room) std::memcpy(line.data() + length - 3, "...", 3);
  make_printable(std::span(line).first(length));
  line[length++] = '\n';
  if (put(log, std::span(line).first(length))) {
    log.dropped = budget.held_back = 0;
  } else {
    ++log.dropped;
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

void Limited::write(Level level, const std::string& key, uint64_t now_ms, const char* format, ...) {
  if (!enabled(level)) return;
  const auto held_back = limit_.pass(key, now_ms);
  if (!held_back) return;
  std::array<char, 4096> text{};
  va_list arguments;
  va_start(arguments, format);
  (void)std::vsnprintf(text.data(), text.size(), format, arguments);  // longer than a line is cut there
  va_end(arguments);
  log::write(level, "%s (%llu such lines held back)", text.data(),
             static_cast<unsigned long long>(*held_back));
}

}  // namespace smbdirect::shm::log
