// SPDX-License-Identifier: MIT
#include "daemon/clients/server_processes.h"

#include <csignal>
#include <map>
#include <string_view>
#include <sys/wait.h>
#include <unistd.h>

#include <doctest/doctest.h>

using namespace smbdirect::daemon;  // NOLINT: a test speaks of one thing
namespace shm = smbdirect::shm;

namespace {

constexpr uid_t kServer = 0, kWorkers = 200, kSomebody = 1000;

/// init 1, supervisor 10 with workers 11 and 12, main 20 with children 21 and 22, 21's own 23.
struct System {
  std::map<pid_t, ProcessFacts> processes{{10, {.start_time = 5, .parent = 1, .user = 0}},
                                          {11, {.start_time = 6, .parent = 10, .user = kWorkers}},
                                          {12, {.start_time = 6, .parent = 10, .user = kWorkers}},
                                          {20, {.start_time = 7, .parent = 1, .user = kServer}},
                                          {21, {.start_time = 8, .parent = 20, .user = kServer}},
                                          {22, {.start_time = 8, .parent = 20, .user = kSomebody}},
                                          {23, {.start_time = 9, .parent = 21, .user = kServer}},
                                          {30, {.start_time = 9, .parent = 1, .user = kSomebody}},
                                          {31, {.start_time = 9, .parent = 1, .user = kWorkers}}};
  ServerProcesses server{.main = 20,
                         .is_ours = [](pid_t pid) { return pid >= 10 && pid < 13; },
                         .look = [this](pid_t pid) -> shm::Result<std::optional<ProcessFacts>> {
                           const auto found = processes.find(pid);
                           return found == processes.end() ? std::nullopt : std::optional(found->second);
                         }};
  std::string_view says(pid_t pid) const {
    const char* text = server.objection_to(pid);
    return text == nullptr ? "" : text;
  }
};

}  // namespace

TEST_CASE("the main process and what it has started are the server's, whoever they run as") {
  const System system;
  for (const pid_t pid : {20, 21, 22, 23}) CHECK(system.says(pid).empty());
}

TEST_CASE("our own processes are not, nor anybody else's") {
  System system;
  for (const pid_t pid : {10, 11, 12}) CHECK(system.says(pid) == "it is a process of smbdirectd itself");
  CHECK(system.says(30) ==
        "it is not a descendant of the server's main process and does not run as its user");
  CHECK(system.says(31) ==
        "it is not a descendant of the server's main process and does not run as its user");
  CHECK(system.says(99) == "there is no such process");
  system.server.main = 0;
  CHECK(system.says(21) == "no main process of the server is registered");
}

TEST_CASE("a daemon that the main process has started is no server's process for that") {
  System system;
  system.processes.at(10).parent = 20;
  system.processes[13] = {.start_time = 9, .parent = 11, .user = kServer};
  for (const pid_t pid : {10, 11}) CHECK(system.says(pid) == "it is a process of smbdirectd itself");
  CHECK(system.says(13) == "it is a descendant of smbdirectd, not of the server's main process");
  CHECK(system.says(21).empty());
}

TEST_CASE("a process whose parent has ended, or that a channel was handed over to, is told by its user") {
  System system;
  system.processes.at(23).parent = 1;
  CHECK(system.says(23).empty());
  system.processes.at(23).user = kSomebody;
  CHECK_FALSE(system.says(23).empty());
  system.processes.at(11).user =
      kServer;  // where workers run as the server's user they are ours all the same
  CHECK_FALSE(system.says(11).empty());
  system.processes[14] = {.start_time = 9, .parent = 11, .user = kServer};
  CHECK(system.says(14) == "it is a descendant of smbdirectd, not of the server's main process");
}

TEST_CASE("a process that is hidden from us is not one of ours; parents that go round end the search") {
  System system;
  system.processes[40] = {};
  CHECK(system.says(40).empty());
  system.processes.at(30).parent = 31;
  system.processes.at(31).parent = 30;
  CHECK_FALSE(system.says(30).empty());
}

TEST_CASE("what the kernel says of a process") {
  const auto self = look_at_process(getpid());
  REQUIRE(self);
  REQUIRE(*self);
  CHECK((*self)->parent == getppid());
  CHECK((*self)->user == getuid());
  CHECK((*self)->start_time > 0);
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    if (getuid() == 0 && setresuid(65534, 65534, 65534) != 0)
      _exit(1);  // not dumpable: /proc shows it as root's
    for (;;) pause();
  }
  for (int i = 0; i < 1000 && getuid() == 0 && (**look_at_process(child)).user == 0; ++i) usleep(10'000);
  const auto other = look_at_process(child);
  REQUIRE((other && *other));
  CHECK((*other)->parent == getpid());
  CHECK((*other)->user == (getuid() == 0 ? 65534 : getuid()));
  kill(child, SIGKILL);
  siginfo_t seen{};
  REQUIRE(waitid(P_PID, id_t(child), &seen, WEXITED | WNOWAIT) == 0);
  CHECK_FALSE(look_at_process(child).value());  // a zombie serves nobody
  waitpid(child, nullptr, 0);
  CHECK_FALSE(look_at_process(child).value());
}
