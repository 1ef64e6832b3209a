// SPDX-License-Identifier: MIT
// A main process's registration with the daemon. Owned by the C handle around it, in that process, for one
// thread at a time. When the daemon dies next() reports it, and the main process registers again.
#pragma once

#include <expected>
#include <string_view>

#include "protocol/proxy/peer/connection.h"
#include "protocol/proxy/peer/inbox.h"
#include "protocol/proxy/peer/outbox.h"
#include "protocol/proxy/peer/owned_fd.h"
#include "protocol/proxy/smbdirect_peer.h"

namespace smbdirect::protocol::proxy::peer {

/// The functions are those of smbdirect_peer.h, and so are the (negated) errnos.
class Registration {
 public:
  /// Nothing, until a registration is moved into it.
  Registration() = default;
  [[nodiscard]] static std::expected<Registration, int> open(std::string_view control_socket);

  [[nodiscard]] int fd() const { return socket_.get(); }
  [[nodiscard]] int next(smbdirect_start& start);
  [[nodiscard]] int failed(uint64_t number, int error);

 private:
  explicit Registration(OwnedFd socket) : socket_(std::move(socket)) {}
  [[nodiscard]] int await_answer(const Deadline& deadline);

  OwnedFd socket_;
  Inbox inbox_{Sender::daemon};
  Outbox outbox_;
  int failure_ = 0;  // what next() returns for ever
};

}  // namespace smbdirect::protocol::proxy::peer
