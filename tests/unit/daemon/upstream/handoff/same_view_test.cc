// SPDX-License-Identifier: MIT
#include "daemon/upstream/handoff/same_view.h"

#include <array>
#include <csignal>
#include <functional>
#include <linux/capability.h>
#include <sched.h>
#include <string>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <doctest/doctest.h>

using smbdirect::daemon::differences_from;

namespace {

/// A process that has done something to itself.
class Other {
 public:
  explicit Other(const std::function<bool()>& done_to_itself) {
    std::array<int, 2> ends{};
    REQUIRE(pipe(ends.data()) == 0);
    pid_ = fork();
    REQUIRE(pid_ >= 0);
    if (pid_ == 0) {
      const char done = done_to_itself() ? 'y' : 'n';
      if (write(ends[1], &done, 1) != 1) _exit(1);
      for (;;) pause();
    }
    char done = 'n';
    REQUIRE(read(ends[0], &done, 1) == 1);
    done_ = done == 'y';
    close(ends[0]);
    close(ends[1]);
  }
  ~Other() {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  Other(const Other&) = delete;
  Other& operator=(const Other&) = delete;
  [[nodiscard]] pid_t pid() const { return pid_; }
  [[nodiscard]] bool done() const { return done_; }

 private:
  pid_t pid_ = -1;
  bool done_ = false;
};

void differs_by(const std::function<bool()>& act, const std::string& setting) {
  CAPTURE(setting);
  const Other other(act);
  if (!other.done()) {
    MESSAGE("not tried, this needs root: " << setting);
    return;
  }
  const std::string text = differences_from(other.pid());
  CHECK(text.find(setting) != std::string::npos);
  CHECK(text.find("; ") == std::string::npos);  // nothing else
}

}  // namespace

TEST_CASE("a process like this one differs in nothing") {
  const Other same([] { return true; });
  CHECK(differences_from(same.pid()).empty());
}

TEST_CASE("each kind of restriction is named with the settings that make it") {
  differs_by([] { return unshare(CLONE_NEWNS) == 0; }, "ProtectHome, ProtectSystem, PrivateTmp");
  differs_by([] { return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0; }, "NoNewPrivileges");
  differs_by([] { return prctl(PR_CAPBSET_DROP, CAP_SYS_TIME, 0, 0, 0) == 0; }, "CapabilityBoundingSet");
}

TEST_CASE("of a process that is gone nothing is known") {
  pid_t gone = -1;
  {
    const Other other([] { return true; });
    gone = other.pid();
  }
  CHECK(differences_from(gone).empty());
}
