// SPDX-License-Identifier: MIT
// A worker's messages to the supervisor, complete and in order: while the supervisor is busy and the control
// socket is full, messages are queued and sent later, so that the supervisor learns of every connection that
// has ended. Owned by the worker, one thread. When the supervisor dies the queue is dropped; another may
// come.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>

#include "daemon/contract/contract.h"
#include "shm/base/unique_fd.h"

namespace smbdirect::workers {

class ControlSender {
 public:
  /// control_fd is borrowed. backlog: whether send_queued() is to be called once the socket is writable.
  ControlSender(int control_fd, uint32_t generation, std::function<void(bool waits)> backlog)
      : control_fd_(control_fd), generation_(generation), backlog_(std::move(backlog)) {}

  /// descriptor is borrowed: a copy of it waits with the message. False: it cannot be sent. With a descriptor
  /// that may pass: the user's processes together have too many under way (ETOOMANYREFS).
  bool send(const daemon::FromWorker& message, int descriptor = -1);
  void send_queued();
  /// The supervisor is gone: nothing is sent any more.
  void close();
  /// To another supervisor, from now on.
  void begin(int control_fd, uint32_t generation);

  [[nodiscard]] size_t queued() const { return queued_.size(); }

 private:
  struct Queued {
    daemon::FromWorker message;
    shm::UniqueFd descriptor;
  };

  enum class Sent : uint8_t { yes, full, never };
  [[nodiscard]] Sent try_send(const daemon::FromWorker& message, int descriptor) const;

  int control_fd_;
  uint32_t generation_;
  std::function<void(bool waits)> backlog_;
  std::deque<Queued> queued_;
  bool closed_ = false;
};

}  // namespace smbdirect::workers
