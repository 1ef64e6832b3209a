// SPDX-License-Identifier: MIT
#include "daemon/os/sd_notify.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <ctime>
#include <optional>
#include <sys/socket.h>

#include "shm/base/number.h"

namespace smbdirect::daemon {
SdNotify::SdNotify(const char* address) {
  if (address == nullptr || (address[0] != '/' && address[0] != '@') || address[1] == '\0') return;
  const std::string_view text(address);
  if (text.size() >= sizeof address_.sun_path) return;
  address_.sun_family = AF_UNIX;
  std::memcpy(address_.sun_path, text.data(), text.size());
  if (text[0] == '@') address_.sun_path[0] = '\0';
  // An abstract name's length counts; a path's terminator does no harm either way.
  length_ = socklen_t(offsetof(sockaddr_un, sun_path) + text.size());
  socket_ = shm::UniqueFd(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
}

void SdNotify::ready(std::string_view status) { send("READY=1\nSTATUS=" + std::string(status)); }

void SdNotify::reloading() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  const uint64_t us = uint64_t(now.tv_sec) * 1'000'000 + uint64_t(now.tv_nsec) / 1'000;
  send("RELOADING=1\nMONOTONIC_USEC=" + std::to_string(us));
}

void SdNotify::stopping(std::string_view status) { send("STOPPING=1\nSTATUS=" + std::string(status)); }

void SdNotify::handed_over(pid_t to) {
  send("MAINPID=" + std::to_string(to));
  socket_.reset();
}

void SdNotify::status(std::string_view status) {
  if (status == last_status_ || quiet_) return;
  last_status_ = status;
  send("STATUS=" + last_status_);
}

void SdNotify::alive() { send("WATCHDOG=1"); }

void SdNotify::send(const std::string& state) {
  if (!socket_.valid() || quiet_) return;
  // A status that cannot be delivered has no one to be reported to; the service runs on.
  [[maybe_unused]] const ssize_t sent =
      sendto(socket_.get(), state.data(), state.size(), MSG_NOSIGNAL | MSG_DONTWAIT,
             reinterpret_cast<const sockaddr*>(&address_), length_);
}

uint64_t watchdog_interval_ms(const char* watchdog_usec, const char* watchdog_pid, pid_t self) {
  if (watchdog_usec == nullptr) return 0;
  if (watchdog_pid != nullptr && shm::number_from_text<uint64_t>(watchdog_pid) != uint64_t(self)) return 0;
  const auto period_us = shm::number_from_text<uint64_t>(watchdog_usec);
  if (!period_us || *period_us == 0) return 0;
  return std::max<uint64_t>(1, *period_us / 2000);
}

}  // namespace smbdirect::daemon
