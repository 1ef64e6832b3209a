// SPDX-License-Identifier: MIT
// The TCP socket under a stream: thin, non-blocking, without knowledge of iWARP. The caller owns the
// descriptor.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <sys/socket.h>
#include <sys/uio.h>

#include "shm/base/result.h"
#include "shm/base/unique_fd.h"

namespace smbdirect::workers::fabric::iwarp {

struct IoResult {
  enum class Kind : uint8_t { moved, would_block, end, failed } kind{};
  size_t bytes{};
  int system_errno{};
};

IoResult receive_into(int fd, std::span<iovec> vectors);
/// more: another call follows at once, so a last short segment may wait for it.
IoResult send_from(int fd, std::span<const iovec> vectors, bool more);

/// Small messages must not wait for an acknowledgement (Nagle).
void set_no_delay(int fd);
/// Lets TCP give the peer up when it has acknowledged nothing for this long, and ask it when there is nothing
/// to acknowledge.
void set_peer_timeout(int fd, uint32_t timeout_ms);
/// TCP's effective segment size on this path.
uint32_t segment_size(int fd);
/// Bytes that the socket has taken and the peer's TCP has not acknowledged.
size_t unacknowledged(int fd);
/// The error a poll reported; 0 when there is none.
int pending_error(int fd);

/// A non-blocking TCP socket for `to`, bound to `from` when given.
shm::Result<shm::UniqueFd> open_socket(const sockaddr_storage& to,
                                       const std::optional<sockaddr_storage>& from);
/// Begins to connect: 0, EINPROGRESS, or why not.
int begin_connect(int fd, const sockaddr_storage& to);

/// "iwarp LOCAL <- PEER" for an accepted socket, "->" for one we connect. Before a socket has its
/// addresses: the one it is to get, when known.
std::string describe_socket(int fd, bool accepted, const sockaddr_storage* to);

}  // namespace smbdirect::workers::fabric::iwarp
