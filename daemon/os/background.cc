// SPDX-License-Identifier: MIT
#include "daemon/os/background.h"

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shm/base/log.h"

namespace smbdirect::daemon {
namespace {

namespace log = shm::log;

constexpr int kFailure = 1;

/// The parent's part.
[[noreturn]] void wait_for(pid_t child, const shm::UniqueFd& told, const std::string& log_name) {
  char byte = 0;
  ssize_t got = -1;
  do {
    got = read(told.get(), &byte, 1);
  } while (got < 0 && errno == EINTR);
  if (got == 1) _exit(0);
  int status = 0;
  pid_t ended = -1;
  do {
    ended = waitpid(child, &status, 0);
  } while (ended < 0 && errno == EINTR);
  const bool known = ended == child && WIFEXITED(status);
  const int code = known ? WEXITSTATUS(status) : kFailure;
  if (ended == child && WIFSIGNALED(status)) {
    log::write(log::Level::error, "the daemon (pid %d) was killed by signal %d (%s) before it listened; %s",
               int(child), WTERMSIG(status), strsignal(WTERMSIG(status)), log_name.c_str());
  } else if (code != 0) {
    log::write(log::Level::error, "the daemon (pid %d) ended with status %d before it listened; %s says why",
               int(child), code, log_name.c_str());
  }
  _exit(code);
}

}  // namespace

shm::Result<shm::UniqueFd> open_log_file(const std::string& file) {
  constexpr mode_t kMode = 0644;
  // A FIFO in its place would let us wait here.
  shm::UniqueFd fd(
      open(file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, kMode));
  if (!fd.valid()) return shm::fail("log file '" + file + "'", errno);
  return fd;
}

shm::Result<shm::UniqueFd> go_to_background(const shm::UniqueFd& log, const std::string& log_name,
                                            bool new_session) {
  std::array<int, 2> ends{};
  if (pipe2(ends.data(), O_CLOEXEC) != 0) return shm::fail("go to the background: pipe", errno);
  const shm::UniqueFd told(ends[0]);
  shm::UniqueFd tell(ends[1]);
  signal(SIGCHLD, SIG_DFL);  // or there would be no exit status to wait for
  const pid_t child = fork();
  if (child < 0) return shm::fail("go to the background: fork", errno);
  if (child > 0) {
    tell.reset();
    wait_for(child, told, log_name);
  }
  if (new_session && setsid() < 0) return shm::fail("go to the background: setsid", errno);
  const shm::UniqueFd null(open("/dev/null", O_RDWR | O_CLOEXEC));
  if (!null.valid()) return shm::fail("go to the background: /dev/null", errno);
  if (dup2(null.get(), STDIN_FILENO) < 0 || dup2(null.get(), STDOUT_FILENO) < 0 ||
      dup2(log.get(), STDERR_FILENO) < 0) {
    return shm::fail("go to the background: standard descriptors", errno);
  }
  return tell;
}

}  // namespace smbdirect::daemon
