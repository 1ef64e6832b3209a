// SPDX-License-Identifier: MIT
#include "daemon/upstream/transparent/transparent_socket.h"

#include <cerrno>
#include <netinet/in.h>
#include <netinet/tcp.h>

namespace smbdirect::daemon {

shm::Result<shm::UniqueFd> make_transparent_socket(int family, uint32_t mark) {
  shm::UniqueFd fd(socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_TCP));
  if (!fd.valid()) return shm::fail("socket", errno);
  const int on = 1;
  const bool v6 = family == AF_INET6;
  if (setsockopt(fd.get(), v6 ? IPPROTO_IPV6 : IPPROTO_IP, v6 ? IPV6_TRANSPARENT : IP_TRANSPARENT, &on,
                 sizeof on) != 0) {
    return shm::fail(v6 ? "setsockopt IPV6_TRANSPARENT" : "setsockopt IP_TRANSPARENT", errno);
  }
  if (setsockopt(fd.get(), SOL_SOCKET, SO_MARK, &mark, sizeof mark) != 0) {
    return shm::fail("setsockopt SO_MARK", errno);
  }
  setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  return fd;
}

}  // namespace smbdirect::daemon
