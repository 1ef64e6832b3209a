// SPDX-License-Identifier: MIT
// Functions on sockets that several parts need. The descriptor stays the caller's; any process.
#pragma once

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <span>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

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

/// One datagram, with a descriptor unless it is -1. As sendmsg(2), but for EINTR; flags beside MSG_NOSIGNAL.
[[nodiscard]] inline ssize_t send_datagram(int fd, const void* bytes, size_t size, int descriptor,
                                           int flags) {
  iovec piece{const_cast<void*>(bytes), size};  // sendmsg() does not write to it
  msghdr header{};
  header.msg_iov = &piece;
  header.msg_iovlen = 1;
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> room{};
  if (descriptor >= 0) {
    header.msg_control = room.data();
    header.msg_controllen = room.size();
    cmsghdr* part = CMSG_FIRSTHDR(&header);
    part->cmsg_level = SOL_SOCKET;
    part->cmsg_type = SCM_RIGHTS;
    part->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(part), &descriptor, sizeof descriptor);
  }
  ssize_t sent = -1;
  do {
    sent = ::sendmsg(fd, &header, MSG_NOSIGNAL | flags);
  } while (sent < 0 && errno == EINTR);
  return sent;
}

/// size: as of recvmsg(2). descriptor: that came along, closed on exec, -1 where none did; the caller's to
/// close. more: another one did, or there was no room for it in this process.
struct Datagram {
  ssize_t size = -1;
  int descriptor = -1;
  bool more = false;
};
/// One datagram; without `descriptors` none is ever received.
[[nodiscard]] inline Datagram receive_datagram(int fd, std::span<std::byte> into, int flags,
                                               bool descriptors) {
  iovec piece{into.data(), into.size()};
  msghdr header{};
  header.msg_iov = &piece;
  header.msg_iovlen = 1;
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> room{};
  if (descriptors) {
    header.msg_control = room.data();
    header.msg_controllen = CMSG_LEN(sizeof(int));  // not its padding, in which the kernel would put another
  }
  Datagram got;
  do {
    got.size = ::recvmsg(fd, &header, flags | MSG_CMSG_CLOEXEC);
  } while (got.size < 0 && errno == EINTR);
  if (got.size < 0) return got;
  got.more = (header.msg_flags & MSG_CTRUNC) != 0;
  const cmsghdr* part = CMSG_FIRSTHDR(&header);
  if (part != nullptr && part->cmsg_level == SOL_SOCKET && part->cmsg_type == SCM_RIGHTS &&
      part->cmsg_len >= CMSG_LEN(sizeof(int))) {
    std::memcpy(&got.descriptor, CMSG_DATA(part), sizeof got.descriptor);
  }
  return got;
}

}  // namespace smbdirect::shm
