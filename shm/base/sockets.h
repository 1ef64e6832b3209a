// SPDX-License-Identifier: MIT
// Functions on stream sockets that several parts need. The descriptor stays the caller's; any process.
#pragma once

#include <cerrno>
#include <sys/socket.h>

namespace smbdirect::shm {

/// The other side sees a reset, not an end of the bytes, when it is closed.
inline void reset_on_close(int fd) {
  const ::linger at_once{.l_onoff = 1, .l_linger = 0};
  (void)::setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
}

/// accept(2) failed because descriptors or memory ran out: it would fail again at once, so the caller has to
/// pause.
[[nodiscard]] inline bool no_room_to_accept(int error) {
  return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM;
}

}  // namespace smbdirect::shm
