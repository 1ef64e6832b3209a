// SPDX-License-Identifier: MIT
#include "daemon/os/child_process.h"

#include <array>
#include <cerrno>
#include <cstdlib>
#include <fcntl.h>
#include <sched.h>
#include <string>
#include <sys/wait.h>
#include <unistd.h>

#include <doctest/doctest.h>

#include "daemon/os/run_program.h"
#include "shm/base/unique_fd.h"

using namespace smbdirect::daemon;
using smbdirect::shm::UniqueFd;

TEST_CASE("a program's two outputs and its status are told apart") {
  const auto output = run_program("/bin/sh", {"-c", "echo out; echo err >&2; exit 7"}, 5'000);
  REQUIRE(output);
  CHECK(output->out == "out\n");
  CHECK(output->err == "err\n");
  CHECK(WEXITSTATUS(output->wait_status) == 7);
}

TEST_CASE("more output than a pipe holds comes whole") {
  const auto output =
      run_program("/bin/sh", {"-c", "head -c 300000 /dev/zero; head -c 200000 /dev/zero >&2"}, 5'000);
  REQUIRE(output);
  CHECK(output->out.size() == 300'000);
  CHECK(output->err.size() == 200'000);
}

TEST_CASE("one that does not end in time is killed with all it has started") {
  const auto output = run_program("/bin/sh", {"-c", "sleep 60 & sleep 60"}, 100);
  REQUIRE_FALSE(output);
  CHECK(output.error().system_errno == ETIMEDOUT);
}

TEST_CASE("a program that is not there is told with its name") {
  const auto pid = start_child({.program = "/nonexistent", .arguments = {}, .descriptors = {-1, -1, -1}});
  REQUIRE_FALSE(pid);
  CHECK(pid.error().text() == "start '/nonexistent': No such file or directory");
}

TEST_CASE("a child has its descriptors and no others, and not the variables that are ours") {
  setenv("NOTIFY_SOCKET", "/run/x", 1);
  // Not closed on exec, as a library may leave one.
  const UniqueFd stray(open("/dev/zero", O_RDONLY));
  const auto output = run_program("/bin/sh", {"-c", "ls /proc/$$/fd; echo \"$NOTIFY_SOCKET.\""}, 5'000);
  unsetenv("NOTIFY_SOCKET");
  REQUIRE(output);
  CHECK(output->out == "0\n1\n2\n.\n");
}

TEST_CASE("a child that takes our place is told what it is to know, and one that is placed runs there") {
  std::array<int, 2> ends{};
  REQUIRE(pipe2(ends.data(), O_CLOEXEC) == 0);
  const UniqueFd in(ends[0]);
  UniqueFd out(ends[1]);
  setenv("NOTIFY_SOCKET", "/run/x", 1);
  setenv("WATCHDOG_USEC", "5", 1);
  setenv("WATCHDOG_PID", "1", 1);
  cpu_set_t usable;
  REQUIRE(sched_getaffinity(0, sizeof usable, &usable) == 0);
  unsigned last = 0;
  for (unsigned i = 0; i < CPU_SETSIZE; ++i) {
    if (CPU_ISSET(i, &usable)) last = i;
  }
  const auto child = start_child({.program = "/bin/sh",
                                  .arguments = {"-c",
                                                "echo \"$NOTIFY_SOCKET.$WATCHDOG_USEC.$WATCHDOG_PID.\"; grep "
                                                "Cpus_allowed_list /proc/self/status"},
                                  .descriptors = {ChildRequest::kNull, out.get(), out.get()},
                                  .keeps = {"NOTIFY_SOCKET", "WATCHDOG_USEC"},
                                  .processor = last});
  out.reset();
  for (const char* name : {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"}) unsetenv(name);
  REQUIRE(child);
  std::string said;
  std::array<char, 256> bytes{};
  for (ssize_t got = 0; (got = read(in.get(), bytes.data(), bytes.size())) > 0;)
    said.append(bytes.data(), size_t(got));
  int status = 0;
  REQUIRE(waitpid(*child, &status, 0) == *child);
  CHECK(said == "/run/x.5..\nCpus_allowed_list:\t" + std::to_string(last) + "\n");
}
