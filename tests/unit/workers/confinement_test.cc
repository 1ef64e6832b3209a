// SPDX-License-Identifier: MIT
// The filter is for the life of a process: each case is a child that says with its exit code what it saw.
#include "workers/confinement.h"

#include <cerrno>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <doctest/doctest.h>

using smbdirect::workers::confine;

namespace {

// What `tries` saw in a confined child: 0 when all was as it should be.
template <class Tries>
int confined(Tries tries) {
  const ::pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) ::_exit(confine() ? tries() : 99);
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  REQUIRE(WIFEXITED(status));
  return WEXITSTATUS(status);
}

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
          if (!refused(::process_vm_readv(::getppid(), &mine, 1, &theirs, 1, 0))) return 1;
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
