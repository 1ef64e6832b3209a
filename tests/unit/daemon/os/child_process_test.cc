// SPDX-License-Identifier: MIT
#include "daemon/os/child_process.h"

#include <cerrno>
#include <cstdlib>
#include <fcntl.h>
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
