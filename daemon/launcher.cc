// SPDX-License-Identifier: MIT
#include "daemon/launcher.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <fcntl.h>
#include <optional>
#include <string>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>
#include <utility>
#include <vector>

namespace smbdirect::daemon {
namespace {

shm::Result<shm::UniqueFd> take_open(std::optional<int> fd, const char* name, const char* allowed) {
  if (!fd) return shm::UniqueFd{};
  const int flags = fcntl(*fd, F_GETFD);
  if (*fd <= STDERR_FILENO || flags < 0) {
    return shm::fail(std::string(name) + " " + std::to_string(*fd) +
                     " is not an open descriptor above 2; allowed: " + allowed);
  }
  fcntl(*fd, F_SETFD, flags | FD_CLOEXEC);
  return shm::UniqueFd(*fd);
}

shm::Result<shm::UniqueFd> take_parent_watch(std::optional<int> fd) {
  if (!fd) return shm::UniqueFd{};
  const std::string what = "--parent-watch-fd " + std::to_string(*fd);
  struct stat status{};
  if (fstat(*fd, &status) != 0)
    return shm::fail(what + " is not open; allowed: a pipe or a socket of the caller's");
  // A file or a terminal would be readable at once, or never.
  if (S_ISREG(status.st_mode) || S_ISDIR(status.st_mode) || S_ISBLK(status.st_mode) ||
      S_ISCHR(status.st_mode))
    return shm::fail(what + " is a file; allowed: a pipe or a socket whose other end the caller holds");
  // Samba's helpers are given 0: no socket of ours may become that.
  shm::UniqueFd own(fcntl(*fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1));
  if (!own.valid()) return shm::fail(what, errno);
  if (*fd > STDERR_FILENO) {
    close(*fd);
  } else if (*fd == STDIN_FILENO) {
    const shm::UniqueFd null(open("/dev/null", O_RDWR | O_CLOEXEC));
    if (!null.valid() || dup2(null.get(), *fd) < 0) return shm::fail(what + ": /dev/null", errno);
  }
  return own;
}

void close_all_but(std::vector<int> kept) {
  std::ranges::sort(kept);
  unsigned first = STDERR_FILENO + 1;
  for (const int fd : kept) {
    if (fd < int(first)) continue;
    if (unsigned(fd) > first) close_range(first, unsigned(fd) - 1, 0);
    first = unsigned(fd) + 1;
  }
  close_range(first, ~0u, 0);
}

/// A reader who has gone costs nothing: SIGPIPE is ignored.
void tell(shm::UniqueFd& fd, const void* bytes, size_t size) {
  if (!fd.valid()) return;
  [[maybe_unused]] const ssize_t written = write(fd.get(), bytes, size);
  fd.reset();
}

}  // namespace

shm::Result<Launcher> Launcher::take(const CommandLine& line) {
  Launcher launcher;
  constexpr const char* kWritable = "one that the caller opened for writing";
  auto newline = take_open(line.ready_fd, "--ready-fd", kWritable);
  if (!newline) return std::unexpected(newline.error());
  launcher.newline_ = std::move(*newline);
  auto process_number = take_open(line.ready_signal_fd, "--ready-signal-fd", kWritable);
  if (!process_number) return std::unexpected(process_number.error());
  launcher.process_number_ = std::move(*process_number);
  auto parent = take_parent_watch(line.parent_watch_fd);
  if (!parent) return std::unexpected(parent.error());
  launcher.parent_ = std::move(*parent);
  auto former =
      take_open(line.take_over_fd, "--take-over-fd", "the socket of a daemon (smbdirectctl upgrade)");
  if (!former) return std::unexpected(former.error());
  launcher.former_ = std::move(*former);
  close_all_but({launcher.newline_.get(), launcher.process_number_.get(), launcher.parent_.get(),
                 launcher.former_.get()});
  return launcher;
}

void Launcher::ready() {
  const pid_t self = getpid();
  tell(newline_, "\n", 1);
  tell(process_number_, &self, sizeof self);
  tell(waiting_, "\n", 1);
}

}  // namespace smbdirect::daemon
