// SPDX-License-Identifier: MIT
#include "workers/fabric/iwarp/socket_io.h"

#include <algorithm>
#include <cerrno>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>

#include "shm/base/socket_address.h"

namespace smbdirect::workers::fabric::iwarp {
namespace {

IoResult outcome(ssize_t n, bool receiving) {
  if (n > 0 || (n == 0 && !receiving)) return {IoResult::Kind::moved, static_cast<size_t>(n), 0};
  if (n == 0) return {IoResult::Kind::end, 0, 0};
  const int error = errno;
  if (error == EAGAIN || error == EWOULDBLOCK || error == EINTR)
    return {IoResult::Kind::would_block, 0, error};
  return {IoResult::Kind::failed, 0, error};
}

void set_int(int fd, int level, int option, int value) {
  // Best effort: each of these makes the path better, none makes it correct.
  (void)::setsockopt(fd, level, option, &value, sizeof value);
}

}  // namespace

IoResult receive_into(int fd, std::span<iovec> vectors) {
  msghdr message{};
  message.msg_iov = vectors.data();
  message.msg_iovlen = vectors.size();
  return outcome(::recvmsg(fd, &message, MSG_DONTWAIT), true);
}

IoResult send_from(int fd, std::span<const iovec> vectors, bool more) {
  msghdr message{};
  message.msg_iov = const_cast<iovec*>(vectors.data());
  message.msg_iovlen = vectors.size();
  return outcome(::sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL | (more ? MSG_MORE : 0)), false);
}

void set_no_delay(int fd) { set_int(fd, IPPROTO_TCP, TCP_NODELAY, 1); }

void set_peer_timeout(int fd, uint32_t timeout_ms) {
  constexpr int kProbes = 4;
  constexpr int kMostSeconds = 32767;  // the kernel takes no more
  const int seconds = static_cast<int>(timeout_ms / 1000);
  set_int(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, static_cast<int>(timeout_ms));
  set_int(fd, IPPROTO_TCP, TCP_KEEPIDLE, std::clamp(seconds / 2, 1, kMostSeconds));
  set_int(fd, IPPROTO_TCP, TCP_KEEPINTVL, std::max(1, seconds / 2 / kProbes));
  set_int(fd, IPPROTO_TCP, TCP_KEEPCNT, kProbes);
  set_int(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
}

uint32_t segment_size(int fd) {
  constexpr uint32_t kFallback = 536;  // RFC 9293 3.7.1: what every path carries
  int size = 0;
  socklen_t length = sizeof size;
  if (::getsockopt(fd, IPPROTO_TCP, TCP_MAXSEG, &size, &length) != 0 || size <= 0) return kFallback;
  return static_cast<uint32_t>(size);
}

size_t unacknowledged(int fd) {
  int size = 0;
  return ::ioctl(fd, SIOCOUTQ, &size) == 0 && size > 0 ? static_cast<size_t>(size) : 0;
}

int pending_error(int fd) {
  int error = 0;
  socklen_t length = sizeof error;
  return ::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) == 0 ? error : errno;
}

shm::Result<shm::UniqueFd> open_socket(const sockaddr_storage& to,
                                       const std::optional<sockaddr_storage>& from) {
  if (to.ss_family != AF_INET && to.ss_family != AF_INET6) {
    return shm::fail("connect: the address is neither IPv4 nor IPv6", EAFNOSUPPORT);
  }
  shm::UniqueFd fd(::socket(to.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP));
  if (!fd.valid()) return shm::fail("socket for " + shm::address_text(to), errno);
  if (from) {
    // Chooses the port at connect(), when the peer is known: more connections fit one address.
    set_int(fd.get(), IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1);
    if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&*from), shm::length_of(*from)) != 0) {
      return shm::fail("bind " + shm::address_text(*from), errno);
    }
  }
  return fd;
}

int begin_connect(int fd, const sockaddr_storage& to) {
  return ::connect(fd, reinterpret_cast<const sockaddr*>(&to), shm::length_of(to)) == 0 ? 0 : errno;
}

std::string describe_socket(int fd, bool accepted, const sockaddr_storage* to) {
  sockaddr_storage local{}, peer{};
  socklen_t length = sizeof local;
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&local), &length) != 0) local = {};
  length = sizeof peer;
  if (::getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &length) != 0 && to != nullptr) peer = *to;
  return "iwarp " + shm::address_text(local) + (accepted ? " <- " : " -> ") + shm::address_text(peer);
}

}  // namespace smbdirect::workers::fabric::iwarp
