// SPDX-License-Identifier: MIT
#include "workers/privileges.h"

#include <cerrno>
#include <grp.h>
#include <pwd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
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

shm::Result<> drop_privileges(const std::string& user) {
  if (!user.empty() && ::geteuid() == 0) {
    errno = 0;
    const passwd* entry = ::getpwnam(user.c_str());
    if (entry == nullptr) return shm::fail("looking up the user '" + user + "' of the pool file", errno);
    if (::initgroups(entry->pw_name, entry->pw_gid) != 0) return shm::fail("initgroups for " + user, errno);
    if (::setresgid(entry->pw_gid, entry->pw_gid, entry->pw_gid) != 0)
      return shm::fail("setresgid for " + user, errno);
    if (::setresuid(entry->pw_uid, entry->pw_uid, entry->pw_uid) != 0)
      return shm::fail("setresuid for " + user, errno);
  }
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return shm::fail("prctl(PR_SET_NO_NEW_PRIVS)", errno);
  return {};
}

}  // namespace smbdirect::workers
