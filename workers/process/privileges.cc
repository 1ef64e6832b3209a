// SPDX-License-Identifier: MIT
#include "workers/process/privileges.h"

#include <array>
#include <cerrno>
#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace smbdirect::workers {

uint64_t raise_locked_memory_limit() {
  rlimit limit{RLIM_INFINITY, RLIM_INFINITY};
  if (::setrlimit(RLIMIT_MEMLOCK, &limit) == 0) return limit.rlim_cur;
  if (::getrlimit(RLIMIT_MEMLOCK, &limit) != 0) return 0;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_MEMLOCK, &limit);
  return limit.rlim_cur;
}

void raise_descriptor_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

namespace {

/// While it may: a change of user takes the right to. Who has none has nothing that could be raised from the
/// set after no_new_privs.
shm::Result<> empty_bounding_set() {
  for (unsigned long one = 0; ::prctl(PR_CAPBSET_READ, one, 0, 0, 0) >= 0; ++one) {
    if (::prctl(PR_CAPBSET_DROP, one, 0, 0, 0) != 0 && errno != EPERM) {
      return shm::fail("prctl(PR_CAPBSET_DROP)", errno);
    }
  }
  return {};
}

/// However the daemon was started: a worker needs none of the capabilities that the supervisor needs.
shm::Result<> drop_capabilities() {
  if (::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0) {
    return shm::fail("prctl(PR_CAP_AMBIENT_CLEAR_ALL)", errno);
  }
  __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3> none{};
  if (::syscall(SYS_capset, &header, none.data()) != 0) return shm::fail("capset", errno);
  return {};
}

}  // namespace

shm::Result<> drop_privileges(const std::string& user) {
  if (auto emptied = empty_bounding_set(); !emptied) return emptied;
  if (!user.empty() && ::geteuid() == 0) {
    errno = 0;
    const passwd* entry = ::getpwnam(user.c_str());
    if (entry == nullptr) return shm::fail("look up the user '" + user + "' (/user in the pool file)", errno);
    if (::initgroups(entry->pw_name, entry->pw_gid) != 0) return shm::fail("initgroups for " + user, errno);
    if (::setresgid(entry->pw_gid, entry->pw_gid, entry->pw_gid) != 0)
      return shm::fail("setresgid for " + user, errno);
    if (::setresuid(entry->pw_uid, entry->pw_uid, entry->pw_uid) != 0)
      return shm::fail("setresuid for " + user, errno);
  }
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return shm::fail("prctl(PR_SET_NO_NEW_PRIVS)", errno);
  return drop_capabilities();
}

}  // namespace smbdirect::workers
