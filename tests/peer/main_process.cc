// SPDX-License-Identifier: MIT
#include "main_process.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>

#include "child.h"

namespace smbdirect::tests::peer {
namespace {

constexpr int kRetryMs = 200;

/// The daemon is not there yet, is going, or has another main process still.
bool passes(int error) {
  constexpr std::array kPassing{-ENOENT, -ECONNREFUSED, -EBUSY,  -ECONNRESET,
                                -EPIPE,  -ETIMEDOUT,    -EAGAIN, -EINTR};
  return std::ranges::find(kPassing, error) != kPassing.end();
}

std::string hex(const uint8_t (&guid)[SMBDIRECT_GUID_SIZE]) {
  std::string text;
  for (const uint8_t byte : guid) {
    std::array<char, 3> digits{};
    (void)std::snprintf(digits.data(), digits.size(), "%02x", byte);
    text += digits.data();
  }
  return text;
}

}  // namespace

MainProcess::~MainProcess() {
  for (const auto& [pid, child] : children_) (void)::kill(pid, SIGKILL);
  for (const auto& [pid, child] : children_) (void)::waitpid(pid, nullptr, 0);
}

int MainProcess::run() {
  sigset_t handled;
  ::sigemptyset(&handled);
  for (const int number : {SIGTERM, SIGINT, SIGCHLD}) ::sigaddset(&handled, number);
  (void)::sigprocmask(SIG_BLOCK, &handled, &original_mask_);
  signals_ = Fd(::signalfd(-1, &handled, SFD_CLOEXEC | SFD_NONBLOCK));
  while (true) {
    if (!registration_) {
      if (const auto registered = try_to_register(); !registered) {
        std::fprintf(stderr, "%s\n", registered.error().c_str());
        return 1;
      }
    }
    std::array<pollfd, 2> polled{{{.fd = signals_.get(), .events = POLLIN, .revents = 0},
                                  {.fd = registration_ ? smbdirect_main_fd(registration_.get()) : -1,
                                   .events = POLLIN,
                                   .revents = 0}}};
    (void)::poll(polled.data(), polled.size(), registration_ ? -1 : kRetryMs);
    signalfd_siginfo signal{};
    while (::read(signals_.get(), &signal, sizeof signal) == sizeof signal) {
      if (signal.ssi_signo != SIGCHLD) return 0;
    }
    reap();
    if (polled[1].revents != 0) {
      if (const auto child_status = take_starts()) return *child_status;
    }
  }
}

/// Not registered after it, and no error: to be tried again.
Outcome<> MainProcess::try_to_register() {
  smbdirect_main* raw = nullptr;
  const int opened = smbdirect_main_open(options_.control.c_str(), &raw);
  if (opened >= 0) {
    registration_.reset(raw);
    std::puts("ready");
    (void)std::fflush(stdout);
    return {};
  }
  if (options_.verbose) std::fprintf(stderr, "%s: %s\n", options_.control.c_str(), std::strerror(-opened));
  if (passes(opened)) return {};
  return std::unexpected("registering at " + options_.control + ": " + std::strerror(-opened));
}

/// A value only in a child.
std::optional<int> MainProcess::take_starts() {
  while (registration_) {
    smbdirect_start start{};
    const int next = smbdirect_main_next(registration_.get(), &start);
    if (next == 0) return std::nullopt;
    if (next < 0) {
      std::fprintf(stderr, "the daemon: %s\n", std::strerror(-next));
      registration_.reset();
      return std::nullopt;
    }
    if (const auto child_status = start_child(start)) return child_status;
  }
  return std::nullopt;
}

std::optional<int> MainProcess::start_child(const smbdirect_start& start) {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC | O_NONBLOCK) < 0) {
    failed(start.number, errno);
    return std::nullopt;
  }
  Fd reads(ends[0]);
  Fd writes(ends[1]);
  const pid_t parent = ::getpid();
  const pid_t pid = ::fork();
  if (pid < 0) {
    failed(start.number, errno);
    return std::nullopt;
  }
  if (pid > 0) {
    children_.emplace(pid, Child{start.number, std::move(reads)});
    std::printf("child %d number %" PRIu64 " guid %s\n", int(pid), start.number,
                hex(start.client_guid).c_str());
    (void)std::fflush(stdout);
    return std::nullopt;
  }
  (void)::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) return 1;  // it died before that took effect
  reads = Fd();
  drop_what_is_the_parents();
  return run_child(start, std::move(writes), options_);
}

/// In a child: neither the registration nor the other children are its own.
void MainProcess::drop_what_is_the_parents() {
  registration_.reset();
  children_.clear();
  signals_ = Fd();
  (void)::sigprocmask(SIG_SETMASK, &original_mask_, nullptr);
}

void MainProcess::reap() {
  for (auto it = children_.begin(); it != children_.end();) {
    int status = 0;
    if (::waitpid(it->first, &status, WNOHANG) != it->first) {
      ++it;
      continue;
    }
    char byte{};
    if (::read(it->second.opened.get(), &byte, 1) != 1) failed(it->second.number, ECHILD);
    std::printf("ended %d %s %d\n", int(it->first), WIFEXITED(status) ? "exit" : "signal",
                WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
    (void)std::fflush(stdout);
    it = children_.erase(it);
  }
}

void MainProcess::failed(uint64_t number, int error) {
  std::fprintf(stderr, "start %" PRIu64 ": no channel was opened: %s\n", number, std::strerror(error));
  if (registration_) (void)smbdirect_main_failed(registration_.get(), number, error);
}

}  // namespace smbdirect::tests::peer
