// SPDX-License-Identifier: MIT
#include "workers/connect/listener.h"

#include <cerrno>
#include <cstring>

#include "shm/base/log.h"
#include "shm/base/socket_address.h"
#include "shm/base/sockets.h"

namespace smbdirect::workers::connect {

namespace {

constexpr int kBacklog = 128;
constexpr int kAcceptsPerTurn = 16;
constexpr uint64_t kPauseMs = 100;  // when the system has no descriptor left

}  // namespace

shm::Result<std::unique_ptr<Listener>> Listener::open(uv_loop_t& loop, const sockaddr_storage& address,
                                                      Accepted accepted) {
  const std::string name = shm::address_text(address);
  shm::UniqueFd fd(::socket(address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return shm::fail("open a socket for " + name, errno);
  const int on = 1;
  (void)::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), shm::length_of(address)) != 0 ||
      ::listen(fd.get(), kBacklog) != 0) {
    const int error = errno;
    const char* advice = error == EADDRINUSE      ? " (choose another port, or port 0 for any free one)"
                         : error == EACCES        ? " (ports below 1024 need privileges: choose a higher one)"
                         : error == EADDRNOTAVAIL ? " (choose an address of this machine)"
                                                  : "";
    return shm::fail("listen on " + name + advice, error);
  }
  return std::make_unique<Listener>(loop, std::move(fd), std::move(accepted));
}

Listener::Listener(uv_loop_t& loop, shm::UniqueFd fd, Accepted accepted)
    : socket_(loop, std::move(fd), [this](int, int status) { on_ready(status); }),
      accepted_(std::move(accepted)),
      pause_(loop, [this] { socket_.want(UV_READABLE); }) {
  socket_.want(UV_READABLE);
}

sockaddr_storage Listener::address() const {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  (void)::getsockname(socket_.fd(), reinterpret_cast<sockaddr*>(&address), &size);
  return address;
}

/// The client stays in the queue; trying again at once would only spin.
void Listener::pause(int error) {
  shm::log::write(shm::log::Level::warning,
                  "accept: %s; trying again soon (raise the limit of open files: ulimit -n)",
                  std::strerror(error));
  socket_.want(0);
  pause_.start(kPauseMs);
}

void Listener::on_ready(int status) {
  if (status < 0) return pause(-status);
  for (int i = 0; i < kAcceptsPerTurn; ++i) {
    sockaddr_storage peer{};
    socklen_t size = sizeof peer;
    shm::UniqueFd client(
        ::accept4(socket_.fd(), reinterpret_cast<sockaddr*>(&peer), &size, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (client.valid()) {
      accepted_(std::move(client), peer);
      continue;
    }
    const int error = errno;
    if (shm::no_room_to_accept(error)) pause(error);
    return;
  }
}

}  // namespace smbdirect::workers::connect
