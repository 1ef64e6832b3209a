// SPDX-License-Identifier: MIT
// The filter is for the life of a process: each case is a child that says with its exit code what it saw.
#include "workers/process/confinement.h"

#include <array>
#include <atomic>
#include <cerrno>
#include <fcntl.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <seccomp.h>
#include <string>
#include <string_view>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <type_traits>
#include <unistd.h>

#include <doctest/doctest.h>
#include <uv.h>

#include "workers/process/allowed_calls.h"
#include "workers/process/thread_pool.h"

using smbdirect::workers::confine;
using smbdirect::workers::Needs;

namespace {

// What `tries` saw in a confined child: 0 when all was as it should be. before: makes its argument, before
// that.
template <class Tries, class Before>
  requires std::is_invocable_v<Before>
int confined(Tries tries, Before before, const Needs& needs = {}) {
  const ::pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    auto made = before();
    ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    ::_exit(confine(needs) ? tries(made) : 99);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  REQUIRE(WIFEXITED(status));
  return WEXITSTATUS(status);
}

template <class Tries>
int confined(Tries tries, const Needs& needs = {}) {
  return confined([&](int) { return tries(); }, [] { return 0; }, needs);
}

/// Breakpoints of the kernel's own: it asks no filter about them (6.14 and later), and ends with SIGILL
/// whoever makes them and has none.
bool is_probe(std::string_view name) { return name == "uretprobe" || name == "uprobe"; }

/// On the list, or allowed with some arguments.
bool allowed(const std::string& name) {
  constexpr std::array kByArguments{"clone",      "prctl",   "prlimit64", "ioctl", "socket",
                                    "socketpair", "connect", "bind",      "kill",  "tgkill"};
#if defined(__SANITIZE_ADDRESS__)
  constexpr std::array kForLeaks{"fork",      "vfork", "ptrace",     "wait4",           "waitid",
                                 "setrlimit", "tkill", "pidfd_open", "process_vm_readv"};
  for (const char* one : kForLeaks) {
    if (name == one) return true;
  }
#endif
  for (const char* one : kByArguments) {
    if (name == one) return true;
  }
  for (const char* one : smbdirect::workers::kAllowedCalls) {
    if (name == one) return true;
  }
  return false;
}

#if defined(__SANITIZE_ADDRESS__)  // LeakSanitizer reads the process that it looks at
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

bool refused(long result) { return result == -1 && errno == EPERM; }

}  // namespace

TEST_CASE("a confined process starts no program and becomes no other") {
  CHECK(confined([] {
          char name[] = "/bin/true";
          char* const arguments[] = {name, nullptr};
          if (!refused(::execve(name, arguments, nullptr))) return 1;
          if (!refused(::unshare(CLONE_NEWNET))) return 2;
          if (!refused(::setresuid(12345, 12345, 12345))) return 3;
          if (!refused(::chroot("/"))) return 4;
          return 0;
        }) == 0);
}

TEST_CASE("a confined process reaches into no other") {
  CHECK(confined([] {
          char byte = 0;
          ::iovec mine{.iov_base = &byte, .iov_len = 1};
          ::iovec theirs = mine;
          if (!kSanitized && !refused(::process_vm_readv(::getppid(), &mine, 1, &theirs, 1, 0))) return 1;
          if (!refused(::process_vm_writev(::getppid(), &mine, 1, &theirs, 1, 0))) return 2;
          return 0;
        }) == 0);
}

#if !defined(__SANITIZE_ADDRESS__)  // LeakSanitizer needs both
TEST_CASE("a confined process has no children and traces nobody") {
  CHECK(confined([] {
          const ::pid_t child = ::fork();
          if (child == 0) ::_exit(0);
          if (!refused(child)) return 1;
          if (!refused(::ptrace(PTRACE_ATTACH, ::getppid(), nullptr, nullptr))) return 2;
          return 0;
        }) == 0);
}
#endif

TEST_CASE("threads that were started before are confined, and read and write files that they are given") {
  struct Work {
    uv_work_t request{};
    int file = -1;
    int refused = 0;
    char read = 0;
  };
  CHECK(confined(
            [](int file) {
              uv_loop_t loop;
              if (uv_loop_init(&loop) != 0) return 1;
              Work work{.file = file};
              work.request.data = &work;
              const auto run = [](uv_work_t* request) {
                auto& mine = *static_cast<Work*>(request->data);
                mine.refused = refused(::setresuid(12345, 12345, 12345)) ? 1 : 0;
                char byte = 'x';
                const ::iovec one{.iov_base = &byte, .iov_len = 1};
                if (::pwritev2(mine.file, &one, 1, 3, 0) != 1) return;
                byte = 0;
                if (::preadv2(mine.file, &one, 1, 3, 0) == 1) mine.read = byte;
              };
              if (uv_queue_work(&loop, &work.request, run, [](uv_work_t*, int) {}) != 0) return 2;
              uv_run(&loop, UV_RUN_DEFAULT);
              if (uv_loop_close(&loop) != 0) return 3;
              if (work.refused != 1) return 4;
              if (work.read != 'x') return 5;
              struct statfs system{};
              if (::fstatfs(file, &system) != 0 || ::fcntl(file, F_GET_SEALS) < 0) return 6;
              return 0;
            },
            [] {
              if (!smbdirect::workers::start_thread_pool()) ::_exit(98);
              return ::memfd_create("file", MFD_CLOEXEC);
            }) == 0);
}

TEST_CASE("a confined process makes no call that is not on the list, whatever it is") {
  CHECK(confined([] {
          for (long call = 0; call < 512; ++call) {
            const char* name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, int(call));
            if (name == nullptr || allowed(name) || is_probe(name)) continue;
            errno = 0;
            if (::syscall(call, -1, -1, -1, -1, -1, -1) != -1) return 1;
            if (errno != (call == SYS_clone3 || call >= 463 ? ENOSYS : EPERM)) return 2;
          }
          return 0;
        }) == 0);
}

TEST_CASE("a confined process makes no sockets but those it needs") {
  const auto sockets = [](const Needs& needs) {
    return confined(
        [&] {
          if (!refused(::socket(AF_UNIX, SOCK_STREAM, 0))) return 1;
          if (!refused(::socket(AF_PACKET, SOCK_RAW, 0))) return 2;
          if (!refused(::socket(AF_INET, SOCK_RAW, IPPROTO_TCP))) return 3;
          if (!refused(::socket(AF_INET, SOCK_DGRAM, 0))) return 4;
          if (!refused(::socket(AF_ALG, SOCK_SEQPACKET, 0))) return 5;
          if (!refused(::socket(AF_NETLINK, SOCK_RAW, NETLINK_AUDIT))) return 6;
          if (!refused(::listen(0, 1))) return 7;
          for (const int family : {AF_INET, AF_INET6}) {
            const int fd = ::socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
            if (needs.dials ? fd < 0 && errno == EPERM : !refused(fd)) return 8;
          }
          const int route = ::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
          if (needs.verbs ? route < 0 : !refused(route)) return 9;
          sockaddr_storage none{};
          if (!needs.dials && !refused(::connect(0, reinterpret_cast<sockaddr*>(&none), sizeof none)))
            return 10;
          if (!needs.verbs && !refused(::bind(0, reinterpret_cast<sockaddr*>(&none), sizeof none))) return 11;
          int pair[2];
          if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) return 12;
          return 0;
        },
        needs);
  };
  for (const bool dials : {false, true}) {
    for (const bool verbs : {false, true}) {
      CAPTURE(dials);
      CAPTURE(verbs);
      CHECK(sockets({.dials = dials, .verbs = verbs}) == 0);
    }
  }
}

#if !defined(__SANITIZE_ADDRESS__)  // whose search for leaks is let out of these
TEST_CASE("a confined process signals itself only, raises no limit, and types nothing into a terminal") {
  CHECK(confined([] {
          if (!refused(::kill(::getppid(), 0))) return 1;
          if (::kill(::getpid(), 0) != 0) return 2;
          rlimit limit{};
          if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return 3;
          if (!refused(::setrlimit(RLIMIT_NOFILE, &limit))) return 4;
          if (!refused(::ioctl(0, TIOCSTI, "x"))) return 5;
          if (!refused(::ioctl(0, long(TIOCSTI) | (1L << 40), "x"))) return 6;  // the kernel looks at 32 bits
          if (!refused(::prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0))) return 7;
          if (!refused(::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, 0, 0, 0))) return 8;
          return 0;
        }) == 0);
}
#endif

TEST_CASE("a confined process is confined with the threads that it had before") {
  static std::atomic<bool> go = false;
  CHECK(confined(
            [](pthread_t thread) {
              go = true;
              void* saw = nullptr;
              if (::pthread_join(thread, &saw) != 0) return 1;
              return saw == nullptr ? 0 : 2;
            },
            [] {
              pthread_t thread{};
              ::pthread_create(
                  &thread, nullptr,
                  [](void*) -> void* {
                    while (!go) ::sched_yield();
                    return refused(::unshare(CLONE_NEWNET)) ? nullptr : &go;
                  },
                  nullptr);
              return thread;
            }) == 0);
}

TEST_CASE("a confined process has what a worker needs: threads, sockets, files") {
  CHECK(confined([] {
          ::pthread_t thread{};
          if (::pthread_create(&thread, nullptr, [](void* value) { return value; }, nullptr) != 0) return 1;
          if (::pthread_join(thread, nullptr) != 0) return 2;
          if (::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0) < 0) return 3;
          if (::open("/dev/null", O_RDWR | O_CLOEXEC) < 0) return 4;
          return 0;
        }) == 0);
}
