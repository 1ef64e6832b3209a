// SPDX-License-Identifier: MIT
#include "protocol/proxy/peer/connection.h"

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

namespace smbdirect::protocol::proxy::peer {
namespace {

bool add_flag(int fd, int get, int set, int flag) {
  const int flags = fcntl(fd, get);
  return flags >= 0 && fcntl(fd, set, flags | flag) == 0;
}

int option(int fd, int name) {
  int value = -1;
  socklen_t size = sizeof value;
  return getsockopt(fd, SOL_SOCKET, name, &value, &size) == 0 ? value : -1;
}

}  // namespace

std::chrono::milliseconds Deadline::left() const {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(at_ - std::chrono::steady_clock::now());
  return std::max(left, std::chrono::milliseconds{0});
}

std::expected<OwnedFd, int> connect_to(std::string_view path, const Deadline& deadline) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty()) return std::unexpected(-ENOENT);
  if (path.size() >= sizeof address.sun_path) return std::unexpected(-ENAMETOOLONG);
  std::ranges::copy(path, address.sun_path);
  OwnedFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return std::unexpected(-errno);
  for (;;) {
    // A nonblocking connect() fails where the listener's queue is full, and nothing tells when it no longer
    // is; a blocking one waits for as long as sends may take.
    const auto left = deadline.left();
    if (left.count() == 0) return std::unexpected(-ETIMEDOUT);
    const timeval time{.tv_sec = left.count() / 1000, .tv_usec = left.count() % 1000 * 1000};
    if (setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &time, sizeof time) != 0)
      return std::unexpected(-errno);
    if (connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) break;
    if (errno != EINTR && errno != EAGAIN) return std::unexpected(-errno);
  }
  if (!add_flag(fd.get(), F_GETFL, F_SETFL, O_NONBLOCK)) return std::unexpected(-errno);
  return fd;
}

int prepare_socket(int fd) {
  if (option(fd, SO_DOMAIN) != AF_UNIX || option(fd, SO_TYPE) != SOCK_STREAM) return -EPROTO;
  if (!add_flag(fd, F_GETFL, F_SETFL, O_NONBLOCK) || !add_flag(fd, F_GETFD, F_SETFD, FD_CLOEXEC))
    return -errno;
  return 0;
}

int wait_for(int fd, short events, const Deadline& deadline) {
  for (;;) {
    pollfd entry{.fd = fd, .events = events, .revents = 0};
    const int ready = poll(&entry, 1, static_cast<int>(deadline.left().count()));
    if (ready > 0) return 0;
    if (ready == 0) return -ETIMEDOUT;
    if (errno != EINTR) return -errno;
  }
}

}  // namespace smbdirect::protocol::proxy::peer
