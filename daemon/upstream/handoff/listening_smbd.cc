// SPDX-License-Identifier: MIT
#include "daemon/upstream/handoff/listening_smbd.h"

#include <cerrno>
#include <fcntl.h>
#include <unistd.h>
#include <utility>

#include "daemon/os/child_process.h"
#include "daemon/upstream/handoff/same_view.h"
#include "shm/base/log.h"

namespace smbdirect::daemon {
namespace {

namespace log = shm::log;

}  // namespace

ListeningSmbd::ListeningSmbd(shm::Loop& loop, const std::string& pid_directory, std::function<void()> ended)
    : loop_(loop), pid_file_(pid_directory + "/smbd.pid"), ended_(std::move(ended)) {}

shm::Result<pid_t> ListeningSmbd::holder() const {
  const shm::UniqueFd file(open(pid_file_.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.valid() && errno == ENOENT) {
    return shm::fail("smbd is not running (there is no " + pid_file_ +
                     "); start it, for example \"systemctl start smbd\"");
  }
  if (!file.valid()) return shm::fail("find smbd: open " + pid_file_, errno);
  struct flock lock{};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  if (fcntl(file.get(), F_GETLK, &lock) != 0) return shm::fail("find smbd: lock of " + pid_file_, errno);
  if (lock.l_type == F_UNLCK) {
    return shm::fail("smbd is not running (no process has locked " + pid_file_ +
                     "); start it, for example \"systemctl start smbd\"");
  }
  // The kernel has no number for a process of another PID namespace.
  if (lock.l_pid <= 0)
    return shm::fail("find smbd: the process that has locked " + pid_file_ + " is in another container");
  return lock.l_pid;
}

shm::Result<pid_t> ListeningSmbd::find() {
  const auto pid = holder();
  if (!pid || (*pid == pid_ && watch_)) return pid;
  watch_.reset();
  auto process = open_process(*pid);
  if (!process) return std::unexpected(process.error());
  process_ = std::move(*process);
  auto watch = shm::ReadWatch::make(loop_, process_.get(), [this] {
    watch_.reset();
    ended_();
  });
  if (!watch) return std::unexpected(watch.error());
  // It may have ended, and its number be another's, between the two looks: then this one differs.
  const auto still = holder();
  if (!still) return still;
  if (*still != *pid) return shm::fail("smbd is being restarted; try again");
  pid_ = *pid;
  watch_ = std::move(*watch);
  watch_->start();
  if (const std::string differences = differences_from(pid_); !differences.empty()) {
    log::write(
        log::Level::warning,
        "clients over RDMA may not get what the listening smbd (pid %d) gives its clients, because an smbd "
        "that this daemon starts has %s: remove such settings from the unit of one, or give both the same",
        int(pid_), differences.c_str());
  }
  return pid;
}

}  // namespace smbdirect::daemon
