// SPDX-License-Identifier: MIT
#include "daemon/upstream/handoff/tcp_pair.h"

#include <cerrno>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string>
#include <sys/time.h>
#include <utility>

#include "shm/base/socket_address.h"

namespace smbdirect::daemon {
namespace {

// Of a handshake within the kernel; only a bug makes it last.
constexpr timeval kPatience{.tv_sec = 1, .tv_usec = 0};

const sockaddr* plain(const sockaddr_storage& address) { return reinterpret_cast<const sockaddr*>(&address); }

/// A socket that may have any address.
shm::Result<shm::UniqueFd> make_socket(int family, const std::string& what) {
  shm::UniqueFd fd(socket(family, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_TCP));
  if (!fd.valid()) return shm::fail(what + ": socket", errno);
  const int on = 1;
  const bool v6 = family == AF_INET6;
  if (setsockopt(fd.get(), v6 ? IPPROTO_IPV6 : IPPROTO_IP, v6 ? IPV6_FREEBIND : IP_FREEBIND, &on,
                 sizeof on) != 0) {
    return shm::fail(what + ": setsockopt FREEBIND", errno);
  }
  // The former connection of the same two addresses may be in TIME_WAIT.
  setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &kPatience, sizeof kPatience);  // connect
  setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &kPatience, sizeof kPatience);  // accept
  return fd;
}

/// A listener that stops to listen when this ends, and not only when its descriptor closes: a process that
/// the loop's thread forks at this moment holds a copy until its exec, and the next pair would find the port
/// taken.
class Listener {
 public:
  explicit Listener(shm::UniqueFd fd) : fd_(std::move(fd)) {}
  ~Listener() { shutdown(fd_.get(), SHUT_RDWR); }
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;
  [[nodiscard]] int get() const { return fd_.get(); }

 private:
  shm::UniqueFd fd_;
};

shm::Result<shm::UniqueFd> dial(const sockaddr_storage& from, const sockaddr_storage& to,
                                const std::string& what) {
  auto fd = make_socket(from.ss_family, what);
  if (!fd) return fd;
  if (bind(fd->get(), plain(from), shm::length_of(from)) != 0) return shm::fail(what + ": bind", errno);
  if (connect(fd->get(), plain(to), shm::length_of(to)) != 0) return shm::fail(what + ": connect", errno);
  return fd;
}

void make_ordinary(const shm::UniqueFd& fd) {
  const int on = 1;
  const timeval never{};
  setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &never, sizeof never);
  setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &never, sizeof never);
  setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

}  // namespace

shm::Result<TcpPair> make_tcp_pair(const sockaddr_storage& client, const sockaddr_storage& server) {
  const std::string what =
      "make a TCP pair from " + shm::address_text(client) + " to " + shm::address_text(server);
  auto socket = make_socket(server.ss_family, what);
  if (!socket) return std::unexpected(socket.error());
  const Listener listener(std::move(*socket));
  if (bind(listener.get(), plain(server), shm::length_of(server)) != 0 || listen(listener.get(), 1) != 0) {
    return shm::fail(what + ": listen", errno);
  }
  auto dialled = dial(client, server, what);
  if (!dialled &&
      (dialled.error().system_errno == EADDRINUSE || dialled.error().system_errno == EADDRNOTAVAIL)) {
    // A connection with this very pair of addresses is there already.
    dialled =
        dial(shm::address_from_text(shm::host_text(shm::host_of(client)), 0).value_or(client), server, what);
  }
  if (!dialled) return std::unexpected(dialled.error());
  shm::UniqueFd accepted(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  if (!accepted.valid()) return shm::fail(what + ": accept", errno);
  make_ordinary(*dialled);
  make_ordinary(accepted);
  if (fcntl(dialled->get(), F_SETFL, O_NONBLOCK) != 0) return shm::fail(what + ": fcntl", errno);
  return TcpPair{std::move(*dialled), std::move(accepted)};
}

}  // namespace smbdirect::daemon
