// SPDX-License-Identifier: MIT
#include "daemon/spawn.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <fcntl.h>
#include <string_view>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

#include "daemon/contract.h"
#include "shm/unique_fd.h"

namespace smbdirect::daemon {
namespace {

/// Ours, of no meaning to a worker: it must not answer systemd in the supervisor's place.
constexpr std::array<std::string_view, 5> kPrivateVariables{
    "NOTIFY_SOCKET=", "WATCHDOG_USEC=", "WATCHDOG_PID=", "LISTEN_FDS=", "LISTEN_PID="};

std::vector<char*> worker_environment() {
  std::vector<char*> variables;
  for (char** variable = environ; *variable != nullptr; ++variable) {
    const std::string_view text(*variable);
    if (std::ranges::none_of(kPrivateVariables, [&](auto name) { return text.starts_with(name); })) {
      variables.push_back(*variable);
    }
  }
  variables.push_back(nullptr);
  return variables;
}

constexpr int kAboveContract = 16;  // copies stand here while the contract's numbers are laid out

/// In the child, between fork and exec: async-signal-safe calls only, and no way back. Reports errno on
/// report_fd, which closes by itself when exec succeeds.
[[noreturn]] void become_worker(const SpawnRequest& request, char* const* arguments, char* const* environment,
                                int report_fd) {
  const auto fail = [&](int fd) {
    const int error = errno;
    // Nobody is left to tell if even this fails; the parent sees exit status 127.
    [[maybe_unused]] const ssize_t written = write(fd, &error, sizeof error);
    _exit(127);
  };
  for (int number = 1; number < NSIG; ++number)
    signal(number, SIG_DFL);  // fails for KILL, STOP: as it should
  setsid();
  const int report = fcntl(report_fd, F_DUPFD_CLOEXEC, kAboveContract);
  if (report < 0) fail(report_fd);
  const int control = fcntl(request.control_fd, F_DUPFD_CLOEXEC, kAboveContract);
  const int config = fcntl(request.config_fd, F_DUPFD_CLOEXEC, kAboveContract);
  const int error_log = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, kAboveContract);
  const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  const int null_high = fcntl(null, F_DUPFD_CLOEXEC, kAboveContract);
  const bool has_handover = request.handover_fd >= 0;
  const int handover = has_handover ? fcntl(request.handover_fd, F_DUPFD_CLOEXEC, kAboveContract) : null_high;
  if (control < 0 || config < 0 || error_log < 0 || null_high < 0 || handover < 0) fail(report);
  const std::array<int, 6> layout{null_high, error_log, error_log, control, config, handover};
  static_assert(kControlFd == 3 && kConfigFd == 4 && kHandoverFd == 5);
  const size_t used = layout.size() - (has_handover ? 0 : 1);
  for (size_t target = 0; target < used; ++target) {
    if (dup2(layout[target], int(target)) < 0) fail(report);
  }
  // Everything else closes now, also what a library or our own parent left open without O_CLOEXEC.
  if (close_range(unsigned(used), unsigned(report) - 1, 0) != 0) fail(report);
  if (close_range(unsigned(report) + 1, ~0u, 0) != 0) fail(report);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  execve(request.program.c_str(), arguments, environment);
  fail(report);
  _exit(127);
}

}  // namespace

shm::Result<pid_t> spawn_worker(const SpawnRequest& request) {
  const std::string what = "start '" + request.program + "'";
  std::array<std::string, 5> words{request.program, "--slot", std::to_string(request.slot), "--generation",
                                   std::to_string(request.generation)};
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  const std::vector<char*> environment = worker_environment();

  std::array<int, 2> ends{};
  if (pipe2(ends.data(), O_CLOEXEC) != 0) return shm::fail(what + ": pipe", errno);
  const shm::UniqueFd report_in(ends[0]);
  shm::UniqueFd report_out(ends[1]);

  // A signal that the child caught before its handlers are reset would be written into our libuv's pipe.
  sigset_t all, before;
  sigfillset(&all);
  sigprocmask(SIG_SETMASK, &all, &before);
  const pid_t pid = fork();
  if (pid == 0) become_worker(request, arguments.data(), environment.data(), report_out.get());
  const int fork_error = errno;
  sigprocmask(SIG_SETMASK, &before, nullptr);
  if (pid < 0) return shm::fail(what + ": fork", fork_error);

  report_out.reset();
  int exec_error = 0;
  ssize_t got = -1;
  do {
    got = read(report_in.get(), &exec_error, sizeof exec_error);
  } while (got < 0 && errno == EINTR);
  if (got != ssize_t(sizeof exec_error)) return pid;  // closed by exec
  while (waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
  }
  return shm::fail(what, exec_error);
}

}  // namespace smbdirect::daemon
