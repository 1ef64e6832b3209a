// SPDX-License-Identifier: MIT
#include "daemon/process_setup.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <fcntl.h>
#include <pwd.h>
#include <sys/resource.h>
#include <unistd.h>

#include "shm/base/log.h"

namespace smbdirect::daemon {

void ensure_standard_descriptors() {
  for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; ++fd) {
    // open takes the lowest free number, so this is fd itself.
    if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) != fd) std::abort();
  }
}

void prepare_process(uint32_t connections) {
  signal(SIGPIPE, SIG_IGN);
  // Whoever started us may have left signals blocked; ours end the pool and tell of dead workers.
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  // Workers inherit it: two descriptors for each connection, and some to spare.
  const rlim_t wanted = 2 * rlim_t(connections) + 1024;
  limit.rlim_cur = std::min(std::max(limit.rlim_cur, wanted), limit.rlim_max);
  setrlimit(RLIMIT_NOFILE, &limit);
  if (limit.rlim_cur < wanted) {
    shm::log::write(
        shm::log::Level::warning,
        "the limit of %llu open files is below what %u connections may need (%llu): raise LimitNOFILE "
        "of the unit (ulimit -Hn), or lower /limits/connections",
        static_cast<unsigned long long>(limit.rlim_cur), connections,
        static_cast<unsigned long long>(wanted));
  }
}

shm::Result<> check_worker_program(const std::string& program) {
  if (access(program.c_str(), X_OK) == 0) return {};
  return shm::fail("worker program '" + program + "' cannot be executed (--worker names another)", errno);
}

}  // namespace smbdirect::daemon
