// SPDX-License-Identifier: MIT
#include "workers/process/confinement.h"

#include <cerrno>
#include <cstdint>
#include <initializer_list>
#include <linux/netlink.h>
#include <memory>
#include <optional>
#include <seccomp.h>
#include <string>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "workers/process/allowed_calls.h"

namespace smbdirect::workers {
namespace {

// LeakSanitizer looks for leaks at exit from a process of its own that traces this one: builds with it may
// start and trace processes.
#if defined(__SANITIZE_ADDRESS__)
constexpr bool kTraced = true;
#else
constexpr bool kTraced = false;
#endif

struct Release {
  void operator()(void* filter) const { seccomp_release(filter); }
};
using Argument = scmp_arg_cmp;

constexpr Argument is(unsigned number, uint64_t value) {
  // Arguments that are an int arrive with whatever the caller had in the upper half.
  return {.arg = number, .op = SCMP_CMP_MASKED_EQ, .datum_a = 0xffffffff, .datum_b = value};
}
constexpr Argument masked(unsigned number, uint64_t mask, uint64_t value) {
  return {.arg = number, .op = SCMP_CMP_MASKED_EQ, .datum_a = mask, .datum_b = value};
}

/// Collects rules; the first that the library does not take is the error.
class Rules {
 public:
  explicit Rules(void* filter) : filter_(filter) {}

  void add(uint32_t action, int call, std::initializer_list<Argument> arguments = {}) {
    if (failed_) return;
    const int added =
        seccomp_rule_add_array(filter_, action, call, unsigned(arguments.size()), arguments.begin());
    if (added != 0) failed_ = shm::Error{"system call filter: rule for call " + std::to_string(call), -added};
  }
  /// Of a name that an older library or another architecture does not have nothing is missing.
  void allow(const char* name, std::initializer_list<Argument> arguments = {}) {
    const int call = seccomp_syscall_resolve_name(name);
    if (call != __NR_SCMP_ERROR) add(SCMP_ACT_ALLOW, call, arguments);
  }
  [[nodiscard]] shm::Result<> outcome() const {
    if (failed_) return std::unexpected(*failed_);
    return {};
  }

 private:
  void* filter_;
  std::optional<shm::Error> failed_;
};

/// Types come with SOCK_CLOEXEC and SOCK_NONBLOCK.
constexpr uint64_t kSocketType = 0xf;

void allow_sockets(Rules& rules, const Needs& needs) {
  // A socket pair connects only the processes that are passed an end (native channels).
  rules.allow("socketpair", {is(0, AF_UNIX)});
  if (needs.dials) {
    for (const int family : {AF_INET, AF_INET6}) {
      rules.allow("socket", {is(0, uint64_t(family)), masked(1, kSocketType, SOCK_STREAM)});
    }
    rules.allow("connect");
  }
  if (needs.verbs) {
    // libibverbs finds devices by NETLINK_RDMA, and neighbours by NETLINK_ROUTE.
    for (const int protocol : {NETLINK_RDMA, NETLINK_ROUTE}) {
      rules.allow("socket", {is(0, AF_NETLINK), is(2, uint64_t(protocol))});
    }
    rules.allow("bind");
  }
}

void allow_by_arguments(Rules& rules) {
  // Threads yes, processes no.
  constexpr uint64_t kThread = 0x00010000;  // CLONE_THREAD
  rules.allow("clone", {masked(0, kThread, kThread)});
  // Itself only.
  const auto self = uint64_t(getpid());
  rules.allow("tgkill", {is(0, self)});
  rules.allow("kill", {is(0, self)});
  rules.allow("prlimit64", {is(0, 0), {.arg = 2, .op = SCMP_CMP_EQ, .datum_a = 0, .datum_b = 0}});
  for (const int what : {PR_SET_NAME, PR_GET_NAME, PR_GET_DUMPABLE, PR_SET_VMA, PR_SET_THP_DISABLE,
                         PR_GET_THP_DISABLE, PR_SET_TIMERSLACK, PR_GET_TIMERSLACK, PR_GET_NO_NEW_PRIVS}) {
    rules.allow("prctl", {is(0, uint64_t(what))});
  }
  // Not those that put words into a terminal's input (TIOCSTI, TIOCLINUX).
  for (const unsigned long what : {FIONREAD, FIONBIO, FIOCLEX, FIONCLEX, TCGETS, TIOCGWINSZ, TIOCOUTQ}) {
    rules.allow("ioctl", {is(1, what)});
  }
  constexpr uint64_t kKind = 0xff00, kRdma = 0x1b00, kSocket = 0x8900;  // RDMA_IOCTL_MAGIC; SIOC...
  rules.allow("ioctl", {masked(1, kKind, kRdma)});
  rules.allow("ioctl", {masked(1, kKind, kSocket)});
}

void allow_leak_search(Rules& rules) {
  for (const char* call :
       {"clone", "fork", "vfork", "ptrace", "wait4", "waitid", "prctl", "prlimit64", "setrlimit", "tgkill",
        "tkill", "kill", "pidfd_open", "process_vm_readv", "ioctl"}) {
    rules.allow(call);
  }
}

/// Calls that kernels of after this have: as if they did not, so that a library does what it did before.
constexpr int kNewer = 463, kNoCalls = 512;

}  // namespace

shm::Result<> do_without_io_uring() {
  const std::unique_ptr<void, Release> filter(seccomp_init(SCMP_ACT_ALLOW));
  if (filter == nullptr) return shm::fail("system call filter", ENOMEM);
  Rules rules(filter.get());
  const int call = seccomp_syscall_resolve_name("io_uring_setup");
  if (call != __NR_SCMP_ERROR) rules.add(SCMP_ACT_ERRNO(ENOSYS), call);
  if (auto outcome = rules.outcome(); !outcome) return outcome;
  if (const int loaded = seccomp_load(filter.get()); loaded != 0) {
    return shm::fail("system call filter: the kernel does not take it", -loaded);
  }
  return {};
}

shm::Result<> confine(const Needs& needs) {
  const std::unique_ptr<void, Release> filter(seccomp_init(SCMP_ACT_ERRNO(EPERM)));
  if (filter == nullptr) return shm::fail("system call filter", ENOMEM);
  // Threads that libraries have started already, too.
  if (const int set = seccomp_attr_set(filter.get(), SCMP_FLTATR_CTL_TSYNC, 1); set != 0) {
    return shm::fail("system call filter: for all threads", -set);
  }
  Rules rules(filter.get());
  for (const char* call : kAllowedCalls) rules.allow(call);
  if (kTraced) {
    allow_leak_search(rules);
    allow_sockets(rules, needs);
  } else {
    allow_by_arguments(rules);
    allow_sockets(rules, needs);
  }
  // Its flags are behind a pointer: libc falls back to clone where it is missing.
  rules.add(SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3));
  for (int call = kNewer; call < kNoCalls; ++call) rules.add(SCMP_ACT_ERRNO(ENOSYS), call);
  if (auto outcome = rules.outcome(); !outcome) return outcome;
  if (const int loaded = seccomp_load(filter.get()); loaded != 0) {
    return shm::fail("system call filter: the kernel does not take it", -loaded);
  }
  return {};
}

}  // namespace smbdirect::workers
