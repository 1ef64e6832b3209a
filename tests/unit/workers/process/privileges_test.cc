// SPDX-License-Identifier: MIT
// Privileges go for good: each case is a child that says with its exit code what it saw.
#include "workers/process/privileges.h"

#include <array>
#include <fstream>
#include <linux/capability.h>
#include <string>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <doctest/doctest.h>

using smbdirect::workers::drop_privileges;

namespace {

template <class Tries>
int in_a_child(Tries tries) {
  const ::pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) ::_exit(tries());
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  REQUIRE(WIFEXITED(status));
  return WEXITSTATUS(status);
}

/// "0000000000001400" of "CapEff:".
std::string status_of_self(const std::string& name) {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;) {
    if (word == name && status >> word) return word;
  }
  return {};
}

const std::string kNone = "0000000000000000";

bool has_nothing() {
  return status_of_self("CapInh:") == kNone && status_of_self("CapPrm:") == kNone &&
         status_of_self("CapEff:") == kNone && status_of_self("CapAmb:") == kNone &&
         status_of_self("NoNewPrivs:") == "1";
}

/// As a daemon that is no root's is given what it needs: user 65534 with CAP_NET_ADMIN and
/// CAP_NET_BIND_SERVICE.
bool become_ambient() {
  constexpr uint32_t kSet = 1u << CAP_NET_ADMIN | 1u << CAP_NET_BIND_SERVICE;
  if (::prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) != 0 || ::setresuid(65534, 65534, 65534) != 0) return false;
  __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3> data{};
  data[0] = {.effective = kSet, .permitted = kSet, .inheritable = kSet};
  if (::syscall(SYS_capset, &header, data.data()) != 0) return false;
  for (const unsigned long one : {CAP_NET_ADMIN, CAP_NET_BIND_SERVICE}) {
    if (::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, one, 0, 0) != 0) return false;
  }
  return true;
}

}  // namespace

TEST_CASE("no capability is left, in no set, whatever the daemon was started with") {
  if (::geteuid() != 0) {
    MESSAGE("skipped: only root can start a process with capabilities");
    return;
  }
  SUBCASE("as root, whom it stays") {
    CHECK(in_a_child([] {
            if (!drop_privileges("") || ::geteuid() != 0) return 1;
            return has_nothing() && status_of_self("CapBnd:") == kNone ? 0 : 2;
          }) == 0);
  }
  SUBCASE("as root, for another user") {
    CHECK(in_a_child([] {
            if (!drop_privileges("nobody") || ::geteuid() == 0) return 1;
            return has_nothing() && status_of_self("CapBnd:") == kNone ? 0 : 2;
          }) == 0);
  }
  SUBCASE("as another user with ambient capabilities") {
    CHECK(in_a_child([] {
            if (!become_ambient()) return 1;
            if (status_of_self("CapAmb:") != "0000000000001400") return 2;
            return drop_privileges("") && has_nothing() ? 0 : 3;
          }) == 0);
  }
}

TEST_CASE("whoever has nothing to give up may go on") {
  CHECK(in_a_child([] {
          if (::geteuid() == 0 && ::setresuid(65534, 65534, 65534) != 0) return 1;
          return drop_privileges("somebody") && has_nothing() ? 0 : 2;
        }) == 0);
}
