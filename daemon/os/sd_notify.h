// SPDX-License-Identifier: MIT
// Reports the daemon's state to systemd: the datagrams of sd_notify(3), without libsystemd. Does nothing when
// NOTIFY_SOCKET is not set. Supervisor only; workers never see the variable.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <sys/types.h>
#include <sys/un.h>

#include "shm/base/unique_fd.h"

namespace smbdirect::daemon {

class SdNotify {
 public:
  /// address: NOTIFY_SOCKET's value, a path or "@name" (abstract); null or another form: notify nobody.
  explicit SdNotify(const char* address);

  void ready(std::string_view status);
  /// The pool file is read again; ready() follows.
  void reloading();
  void stopping(std::string_view status);
  /// Says nothing while it is true: another process is the daemon still.
  void quiet(bool quiet) { quiet_ = quiet; }
  /// Another process is the daemon from now on, and reports for it.
  void handed_over(pid_t to);
  void status(std::string_view status);
  /// The loop runs: what WatchdogSec= of the unit waits for.
  void alive();

 private:
  void send(const std::string& state);

  shm::UniqueFd socket_;
  sockaddr_un address_{};
  socklen_t length_ = 0;
  std::string last_status_;
  bool quiet_ = false;
};

/// How often systemd is to be told that we live, in ms: half of WATCHDOG_USEC, as sd_watchdog_enabled(3)
/// advises; 0: never, because that is not set, or WATCHDOG_PID names another process.
[[nodiscard]] uint64_t watchdog_interval_ms(const char* watchdog_usec, const char* watchdog_pid, pid_t self);

}  // namespace smbdirect::daemon
