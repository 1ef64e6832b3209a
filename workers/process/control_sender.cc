// SPDX-License-Identifier: MIT
#include "workers/process/control_sender.h"

#include <cerrno>
#include <fcntl.h>

#include "shm/base/log.h"

namespace smbdirect::workers {

/// A message that cannot be sent at all is told; the end of the socket says the rest.
ControlSender::Sent ControlSender::try_send(const daemon::FromWorker& message, int descriptor) const {
  const auto sent = daemon::send_message(control_fd_, generation_, message, descriptor);
  if (sent) return Sent::yes;
  if (sent.error().system_errno == EAGAIN) return Sent::full;
  shm::log::write(shm::log::Level::warning, "cannot tell the supervisor: %s", sent.error().text().c_str());
  return Sent::never;
}

bool ControlSender::send(const daemon::FromWorker& message, int descriptor) {
  if (closed_) return false;
  if (queued_.empty()) {
    const Sent sent = try_send(message, descriptor);
    if (sent != Sent::full) return sent == Sent::yes;
  }
  queued_.push_back({message, shm::UniqueFd(descriptor < 0 ? -1 : ::fcntl(descriptor, F_DUPFD_CLOEXEC, 0))});
  if (queued_.size() == 1) backlog_(true);
  return true;
}

void ControlSender::send_queued() {
  if (queued_.empty()) return;
  while (!queued_.empty()) {
    if (try_send(queued_.front().message, queued_.front().descriptor.get()) == Sent::full) return;
    queued_.pop_front();
  }
  backlog_(false);
}

void ControlSender::begin(int control_fd, uint32_t generation) {
  control_fd_ = control_fd;
  generation_ = generation;
  closed_ = false;
}

void ControlSender::close() {
  closed_ = true;
  queued_.clear();
}

}  // namespace smbdirect::workers
