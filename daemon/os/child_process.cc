// SPDX-License-Identifier: MIT
#include "daemon/os/child_process.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <fcntl.h>
#include <sched.h>
#include <span>
#include <string_view>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

namespace smbdirect::daemon {
namespace {

std::vector<char*> child_environment(std::span<const std::string_view> keeps) {
  std::vector<char*> variables;
  for (char** variable = environ; *variable != nullptr; ++variable) {
    const std::string_view text(*variable);
    const auto is = [name = text.substr(0, text.find('='))](std::string_view one) { return one == name; };
    if (std::ranges::none_of(kPrivateVariables, is) || std::ranges::any_of(keeps, is))
      variables.push_back(*variable);
  }
  variables.push_back(nullptr);
  return variables;
}

struct Prepared {
  const char* program;
  char* const* arguments;
  char* const* environment;
  std::span<const int> descriptors;
  const cpu_set_t* processors;  // null: any
};

/// In the child, between fork and exec: no way back. Reports errno on report_fd, which closes by itself when
/// exec succeeds.
[[noreturn]] void become(const Prepared& child, int report_fd) {
  const auto fail = [](int fd) {
    const int error = errno;
    // Nobody is left to tell if even this fails; the parent sees exit status 127.
    [[maybe_unused]] const ssize_t written = write(fd, &error, sizeof error);
    _exit(127);
  };
  for (int number = 1; number < NSIG; ++number)
    signal(number, SIG_DFL);  // fails for KILL, STOP: as it should
  setsid();
  // One that is offline now is no reason not to run.
  if (child.processors != nullptr) sched_setaffinity(0, sizeof *child.processors, child.processors);
  // Copies stand above while the numbers are laid out.
  const int report = fcntl(report_fd, F_DUPFD_CLOEXEC, int(kMostDescriptors));
  if (report < 0) fail(report_fd);
  const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  std::array<int, kMostDescriptors> copies{};
  for (size_t target = 0; target < child.descriptors.size(); ++target) {
    const int source = child.descriptors[target] == ChildRequest::kNull ? null : child.descriptors[target];
    copies[target] = fcntl(source, F_DUPFD_CLOEXEC, int(kMostDescriptors));
    if (copies[target] < 0) fail(report);
  }
  for (size_t target = 0; target < child.descriptors.size(); ++target) {
    if (dup2(copies[target], int(target)) < 0) fail(report);
  }
  // Everything else closes now, also what a library or our own parent left open without O_CLOEXEC.
  if (close_range(unsigned(child.descriptors.size()), unsigned(report) - 1, 0) != 0) fail(report);
  if (close_range(unsigned(report) + 1, ~0u, 0) != 0) fail(report);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  execve(child.program, child.arguments, child.environment);
  fail(report);
  _exit(127);
}

}  // namespace

shm::Result<pid_t> start_child(const ChildRequest& request) {
  const std::string what = "start '" + request.program + "'";
  if (request.descriptors.size() > kMostDescriptors) return shm::fail(what, EINVAL);
  std::vector<std::string> words{request.program};
  words.insert(words.end(), request.arguments.begin(), request.arguments.end());
  std::vector<char*> arguments;
  arguments.reserve(words.size() + 1);
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  const std::vector<char*> environment = child_environment(request.keeps);
  cpu_set_t processors;
  CPU_ZERO(&processors);
  if (request.processor) CPU_SET(*request.processor, &processors);
  const Prepared prepared{request.program.c_str(), arguments.data(), environment.data(), request.descriptors,
                          request.processor ? &processors : nullptr};

  std::array<int, 2> ends{};
  if (pipe2(ends.data(), O_CLOEXEC) != 0) return shm::fail(what + ": pipe", errno);
  const shm::UniqueFd report_in(ends[0]);
  shm::UniqueFd report_out(ends[1]);

  // A signal that the child caught before its handlers are reset would be written into our libuv's pipe.
  sigset_t all, before;
  sigfillset(&all);
  sigprocmask(SIG_SETMASK, &all, &before);
  const pid_t pid = fork();
  if (pid == 0) become(prepared, report_out.get());
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

shm::Result<shm::UniqueFd> open_process(pid_t pid) {
  // glibc 2.36 declares pidfd_open() for C alone.
  shm::UniqueFd fd(int(syscall(SYS_pidfd_open, pid, 0u)));
  if (!fd.valid()) return shm::fail("watch process " + std::to_string(pid), errno);
  return fd;
}

void signal_process(const shm::UniqueFd& process, int signal) {
  // One that has ended needs none.
  (void)syscall(SYS_pidfd_send_signal, process.get(), signal, nullptr, 0u);
}

}  // namespace smbdirect::daemon
