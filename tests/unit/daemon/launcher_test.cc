// SPDX-License-Identifier: MIT
// Each case in a process of its own: a launcher's descriptors are the process's.
#include "daemon/launcher.h"

#include <array>
#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <functional>
#include <string>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include <doctest/doctest.h>

using smbdirect::daemon::CommandLine;
using smbdirect::daemon::Launcher;
using smbdirect::shm::UniqueFd;

namespace {

struct Pipe {
  std::array<int, 2> ends{};
  Pipe() { REQUIRE(pipe(ends.data()) == 0); }
  ~Pipe() {
    close(ends[0]);
    close(ends[1]);
  }
  Pipe(const Pipe&) = delete;
  Pipe& operator=(const Pipe&) = delete;
};

pid_t in_child(const std::function<bool()>& work) {
  const pid_t pid = fork();
  REQUIRE(pid >= 0);
  if (pid == 0) _exit(work() ? 0 : 1);
  return pid;
}

bool succeeded(pid_t pid) {
  int status = 0;
  REQUIRE(waitpid(pid, &status, 0) == pid);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

bool is_open(int fd) { return fcntl(fd, F_GETFD) >= 0; }

std::string error_of(const CommandLine& line) {
  const auto launcher = Launcher::take(line);
  return launcher ? "none" : launcher.error().text();
}

}  // namespace

TEST_CASE("each who waits for readiness gets it in his own words, and then the end") {
  const Pipe newline, number;
  const pid_t pid = in_child([&] {
    CommandLine line;
    line.ready_fd = newline.ends[1];
    line.ready_signal_fd = number.ends[1];
    auto launcher = Launcher::take(line);
    if (!launcher) return false;
    launcher->ready();
    launcher->ready();  // once is enough
    return !is_open(newline.ends[1]) && !is_open(number.ends[1]);
  });
  std::array<char, 16> text{};
  CHECK(read(newline.ends[0], text.data(), text.size()) == 1);
  CHECK(text[0] == '\n');
  REQUIRE(read(number.ends[0], text.data(), text.size()) == ssize_t(sizeof(pid_t)));
  pid_t told = 0;
  std::memcpy(&told, text.data(), sizeof told);
  CHECK(told == pid);
  CHECK(succeeded(pid));

  const Pipe waiting;
  Launcher background;
  background.also_tells(UniqueFd(dup(waiting.ends[1])));
  background.ready();
  CHECK(read(waiting.ends[0], text.data(), text.size()) == 1);
}

TEST_CASE("a reader who has gone is no reason to fail") {
  CHECK(succeeded(in_child([] {
    signal(SIGPIPE, SIG_IGN);
    std::array<int, 2> ends{};
    if (pipe(ends.data()) != 0) return false;
    close(ends[0]);
    CommandLine line;
    line.ready_signal_fd = ends[1];
    auto launcher = Launcher::take(line);
    if (!launcher) return false;
    launcher->ready();
    return true;
  })));
}

TEST_CASE(
    "the parent's pipe may be standard input, which then is /dev/null; all that is not named is closed") {
  const Pipe pipe, stray;
  CHECK(succeeded(in_child([&] {
    dup2(pipe.ends[0], STDIN_FILENO);
    CommandLine line;
    line.parent_watch_fd = STDIN_FILENO;
    auto launcher = Launcher::take(line);
    if (!launcher) return false;
    const UniqueFd parent = launcher->take_parent();
    struct stat input{};
    struct stat watched{};
    if (fstat(STDIN_FILENO, &input) != 0 || !S_ISCHR(input.st_mode)) return false;
    if (fstat(parent.get(), &watched) != 0 || !S_ISFIFO(watched.st_mode)) return false;
    if ((fcntl(parent.get(), F_GETFD) & FD_CLOEXEC) == 0) return false;
    for (const int fd : {pipe.ends[1], stray.ends[0], stray.ends[1]}) {
      if (fd != parent.get() && is_open(fd)) return false;
    }
    return true;
  })));
}

TEST_CASE("descriptors that cannot be what they are to be") {
  CommandLine ready;
  ready.ready_fd = 777;
  CHECK(error_of(ready).find("--ready-fd 777 is not an open descriptor above 2; allowed: ") == 0);
  CommandLine signal;
  signal.ready_signal_fd = STDERR_FILENO;
  CHECK(error_of(signal).find("--ready-signal-fd 2 is not an open descriptor above 2; allowed: ") == 0);
  CommandLine closed;
  closed.parent_watch_fd = 777;
  CHECK(error_of(closed).find("--parent-watch-fd 777 is not open; allowed: a pipe or a socket") == 0);
  for (const char* path : {"/dev/null", "/proc/self/status", "/"}) {
    const UniqueFd file(open(path, O_RDONLY | O_CLOEXEC));
    REQUIRE(file.valid());
    CommandLine line;
    line.parent_watch_fd = file.get();
    CHECK_MESSAGE(error_of(line).find(" is a file; allowed: a pipe or a socket") != std::string::npos, path);
  }
}
