// SPDX-License-Identifier: MIT
#include "daemon/upstream/transparent/transparent_probe.h"

#include <cerrno>
#include <poll.h>
#include <string>

#include "daemon/upstream/transparent/transparent_socket.h"
#include "shm/base/socket_address.h"

namespace smbdirect::daemon {
namespace {

constexpr int kPatienceMs = 1'000;

sockaddr* plain(sockaddr_storage& address) { return reinterpret_cast<sockaddr*>(&address); }

}  // namespace

sockaddr_storage probe_address(int family) {
  return shm::address_from_text(family == AF_INET6 ? "2001:db8::1" : "192.0.2.1", 0)
      .value_or(sockaddr_storage{});
}

shm::Result<> probe_transparent(int family, uint32_t mark) {
  sockaddr_storage server =
      shm::address_from_text(family == AF_INET6 ? "::1" : "127.0.0.1", 0).value_or(sockaddr_storage{});
  sockaddr_storage client = probe_address(family);
  socklen_t length = shm::length_of(server);
  const std::string what =
      "test connection over loopback from the address " + shm::host_text(shm::host_of(client));

  const shm::UniqueFd listener(socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!listener.valid() || bind(listener.get(), plain(server), length) != 0 ||
      listen(listener.get(), 1) != 0 || getsockname(listener.get(), plain(server), &length) != 0) {
    return shm::fail(what + ": listen on " + shm::address_text(server), errno);
  }
  auto socket = make_transparent_socket(family, mark);
  if (!socket) return shm::fail(what + ": " + socket.error().what, socket.error().system_errno);
  if (bind(socket->get(), plain(client), length) != 0) return shm::fail(what + ": bind", errno);
  if (connect(socket->get(), plain(server), length) != 0 && errno != EINPROGRESS) {
    return shm::fail(what + ": connect", errno);
  }
  pollfd arrival{.fd = listener.get(), .events = POLLIN, .revents = 0};
  int ready = 0;
  do {
    ready = poll(&arrival, 1, kPatienceMs);
  } while (ready < 0 && errno == EINTR);
  if (ready <= 0) return shm::fail(what + ": it did not arrive", ready < 0 ? errno : ETIMEDOUT);
  sockaddr_storage seen{};
  length = sizeof seen;
  const shm::UniqueFd accepted(accept4(listener.get(), plain(seen), &length, SOCK_CLOEXEC));
  if (!accepted.valid()) return shm::fail(what + ": accept", errno);
  if (shm::host_of(seen) != shm::host_of(client)) {
    return shm::fail(what + ": it arrived from " + shm::host_text(shm::host_of(seen)) +
                     ", so something translates addresses on lo (\"nft list ruleset\" shows the rules)");
  }
  return {};
}

}  // namespace smbdirect::daemon
