// SPDX-License-Identifier: MIT
#include "workers/confinement.h"

#include <array>
#include <cerrno>
#include <memory>
#include <seccomp.h>

namespace smbdirect::workers {
namespace {

// LeakSanitizer looks for leaks at exit from a process of its own that traces this one: builds with it leave
// those two calls out.
#if defined(__SANITIZE_ADDRESS__)
constexpr bool kTraced = true;
#else
constexpr bool kTraced = false;
#endif

// What no worker ever does. A list of what it may do would have to follow every library and provider of
// rdma-core; this one stops the ways from a worker to anything else.
constexpr std::array kForbidden{
    // other programs and processes
    SCMP_SYS(execve), SCMP_SYS(execveat), SCMP_SYS(fork), SCMP_SYS(vfork), SCMP_SYS(ptrace),
    SCMP_SYS(process_vm_readv), SCMP_SYS(process_vm_writev), SCMP_SYS(pidfd_getfd), SCMP_SYS(kcmp),
    // other credentials, name spaces, roots
    SCMP_SYS(setuid), SCMP_SYS(setgid), SCMP_SYS(setreuid), SCMP_SYS(setregid), SCMP_SYS(setresuid),
    SCMP_SYS(setresgid), SCMP_SYS(setgroups), SCMP_SYS(capset), SCMP_SYS(unshare), SCMP_SYS(setns),
    SCMP_SYS(chroot), SCMP_SYS(pivot_root), SCMP_SYS(mount), SCMP_SYS(umount2), SCMP_SYS(open_tree),
    SCMP_SYS(move_mount), SCMP_SYS(fsopen), SCMP_SYS(fsmount),
    // the kernel itself
    SCMP_SYS(bpf), SCMP_SYS(perf_event_open), SCMP_SYS(init_module), SCMP_SYS(finit_module),
    SCMP_SYS(delete_module), SCMP_SYS(kexec_load), SCMP_SYS(kexec_file_load), SCMP_SYS(reboot),
    SCMP_SYS(swapon), SCMP_SYS(swapoff), SCMP_SYS(syslog), SCMP_SYS(acct), SCMP_SYS(userfaultfd),
    SCMP_SYS(keyctl), SCMP_SYS(add_key), SCMP_SYS(request_key), SCMP_SYS(settimeofday),
    SCMP_SYS(clock_settime), SCMP_SYS(adjtimex), SCMP_SYS(clock_adjtime), SCMP_SYS(personality),
    SCMP_SYS(io_uring_setup)};

struct Release {
  void operator()(void* filter) const { seccomp_release(filter); }
};

}  // namespace

shm::Result<> confine() {
  const std::unique_ptr<void, Release> filter(seccomp_init(SCMP_ACT_ALLOW));
  if (filter == nullptr) return shm::fail("system call filter", ENOMEM);
  for (const int call : kForbidden) {
    if (kTraced && call == SCMP_SYS(ptrace)) continue;
    const int added = seccomp_rule_add(filter.get(), SCMP_ACT_ERRNO(EPERM), call, 0);
    if (added != 0) return shm::fail("system call filter: rule for call " + std::to_string(call), -added);
  }
  // Threads yes, processes no. clone3's flags are behind a pointer: libc falls back to clone where it is
  // missing.
  constexpr scmp_datum_t kThread = 0x00010000;  // CLONE_THREAD
  const scmp_arg_cmp process{.arg = 0, .op = SCMP_CMP_MASKED_EQ, .datum_a = kThread, .datum_b = 0};
  const int no_process =
      kTraced ? 0 : seccomp_rule_add(filter.get(), SCMP_ACT_ERRNO(EPERM), SCMP_SYS(clone), 1, process);
  if (no_process != 0) return shm::fail("system call filter: rule for clone", -no_process);
  if (const int added = seccomp_rule_add(filter.get(), SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
      added != 0) {
    return shm::fail("system call filter: rule for clone3", -added);
  }
  if (const int loaded = seccomp_load(filter.get()); loaded != 0) {
    return shm::fail("system call filter: the kernel does not take it", -loaded);
  }
  return {};
}

}  // namespace smbdirect::workers
