// SPDX-License-Identifier: MIT
// UNIX stream sockets as the library uses them: connecting and waiting, with a deadline. These are the only
// places where it blocks. Used in the process that links the library; nothing is shared. A daemon or worker
// that dies meanwhile is an error returned.
#pragma once

#include <chrono>
#include <expected>
#include <string_view>

#include "protocol/proxy/peer/owned_fd.h"

namespace smbdirect::protocol::proxy::peer {

/// The deadline of all waiting within one call.
class Deadline {
 public:
  explicit Deadline(std::chrono::milliseconds from_now) : at_(std::chrono::steady_clock::now() + from_now) {}
  /// Rounded up, so that a wait does not end before it; 0 when it has passed.
  [[nodiscard]] std::chrono::milliseconds left() const;

 private:
  std::chrono::steady_clock::time_point at_;
};

/// What smbdirect_peer.h allows each blocking function.
inline constexpr std::chrono::milliseconds kPatience{5000};

/// A connected, nonblocking socket. Errors: a negated errno; -ETIMEDOUT, -ENAMETOOLONG.
[[nodiscard]] std::expected<OwnedFd, int> connect_to(std::string_view path, const Deadline& deadline);

/// Makes a descriptor from elsewhere what the library works with: nonblocking and closed on exec. 0, or
/// -EPROTO if it is no UNIX stream socket.
[[nodiscard]] int prepare_socket(int fd);

/// Until `events` (or the end of the connection). 0, -ETIMEDOUT, or another negated errno.
[[nodiscard]] int wait_for(int fd, short events, const Deadline& deadline);

}  // namespace smbdirect::protocol::proxy::peer
