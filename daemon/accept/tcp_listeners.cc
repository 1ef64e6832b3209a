// SPDX-License-Identifier: MIT
#include "daemon/accept/tcp_listeners.h"

#include <algorithm>
#include <cerrno>
#include <cinttypes>
#include <cstring>
#include <netinet/in.h>
#include <optional>
#include <sys/socket.h>
#include <utility>

#include "daemon/os/own_address.h"
#include "shm/base/socket_address.h"
#include "shm/base/sockets.h"

namespace smbdirect::daemon {
namespace {

namespace log = shm::log;

constexpr int kBacklog = 512;
constexpr int kAcceptsPerWake = 64;  // then the loop's other work has its turn
constexpr uint64_t kRestMs = 250;    // after "too many open files"
constexpr uint64_t kRestLogMs = 10'000;

std::string advice(int error, uint16_t port) {
  switch (error) {
    case EADDRINUSE:
      return "; another program has that port (\"ss -ltnp sport = :" + std::to_string(port) +
             "\" shows which)";
    case EACCES:
      return "; a port below 1024 needs CAP_NET_BIND_SERVICE: start as root or with the systemd unit";
    default:
      return {};
  }
}

std::unexpected<shm::Error> refused(const char* call, const ListenerConfig& config, int error) {
  return shm::fail(std::string(call) + " " + config.address + " port " + std::to_string(config.port) + ": " +
                   std::strerror(error) + advice(error, config.port));
}

std::string name_of(const ListenerConfig& config, uint16_t port) {
  return config.address + " port " + std::to_string(port) + " (iwarp)";
}

int bind_to(int fd, const sockaddr_storage& address) {
  return ::bind(fd, reinterpret_cast<const sockaddr*>(&address), shm::length_of(address));
}

/// Also to an address that no interface has now: it serves once one has.
int bind_ahead(int fd, const sockaddr_storage& address) {
  const int on = 1;
  const bool v6 = address.ss_family == AF_INET6;
  if (setsockopt(fd, v6 ? IPPROTO_IPV6 : IPPROTO_IP, v6 ? IPV6_FREEBIND : IP_FREEBIND, &on, sizeof on) != 0)
    return -1;
  return bind_to(fd, address);
}

}  // namespace

TcpListeners::TcpListeners(shm::Loop& loop, const PoolConfig& config, Accepted accepted)
    : loop_(loop),
      accepted_(std::move(accepted)),
      rest_timer_(loop,
                  [this] {
                    resting_ = false;
                    watch_all(!held_);
                  }),
      rest_log_(kRestLogMs, 4) {
  for (const ListenerConfig& listener : config.listeners) {
    if (listener.fabric != Fabric::iwarp) continue;
    sockets_.push_back(std::make_unique<Socket>(Socket{listener, listener.port, {}, {}}));
  }
}

shm::Result<> TcpListeners::bind(std::vector<InheritedListeners::Socket> inherited) {
  for (const auto& socket : sockets_) {
    const auto found = std::ranges::find_if(
        inherited, [&](const auto& one) { return one.listener == socket->config && one.fd.valid(); });
    if (found != inherited.end()) {
      socket->port = found->port;
      socket->fd = std::move(found->fd);
    } else if (const auto bound = bind_one(*socket); !bound) {
      return bound;
    }
  }
  return {};
}

shm::Result<> TcpListeners::bind_one(Socket& socket) {
  const ListenerConfig& config = socket.config;
  const auto address = shm::address_from_text(config.address, config.port);
  if (!address) return shm::fail("listener address " + config.address, EINVAL);
  shm::UniqueFd fd(::socket(address->ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_TCP));
  if (!fd.valid()) return refused("socket for", config, errno);
  const int on = 1;
  setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (address->ss_family == AF_INET6) setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
  int result = bind_to(fd.get(), *address);
  const bool ahead = result != 0 && errno == EADDRNOTAVAIL;
  if (ahead) result = bind_ahead(fd.get(), *address);
  if (result != 0) return refused("bind", config, errno);
  sockaddr_storage bound{};
  socklen_t length = sizeof bound;
  if (getsockname(fd.get(), reinterpret_cast<sockaddr*>(&bound), &length) == 0) {
    socket.port = shm::port_of(bound);
  }
  if (ahead) {
    log::write(log::Level::warning,
               "%s: no interface of this host has this address now; clients are served once one has (\"ip "
               "address\" shows them; a typing error is to be mended in /listeners)",
               name_of(config, socket.port).c_str());
  }
  socket.fd = std::move(fd);
  return {};
}

shm::Result<std::vector<InheritedListeners::Socket>> TcpListeners::copies() const {
  std::vector<InheritedListeners::Socket> copies;
  for (const auto& socket : sockets_) {
    shm::UniqueFd fd = shm::duplicate_of(socket->fd.get());
    if (!fd.valid()) return shm::fail("copy the listening socket of " + socket->config.address, errno);
    copies.push_back({socket->config, socket->port, std::move(fd)});
  }
  return copies;
}

shm::Result<> TcpListeners::listen() {
  for (const auto& socket : sockets_) {
    // Two listeners on one port both bind with SO_REUSEADDR; it is here that the second one is refused.
    if (::listen(socket->fd.get(), kBacklog) != 0) return refused("listen on", socket->config, errno);
    auto watch =
        shm::ReadWatch::make(loop_, socket->fd.get(), [this, one = socket.get()] { accept_some(*one); });
    if (!watch) return std::unexpected(watch.error());
    socket->watch = std::move(*watch);
  }
  watch_all(!held_);
  return {};
}

void TcpListeners::close() {
  rest_timer_.stop();
  sockets_.clear();
}

void TcpListeners::hold(bool held) {
  if (held == std::exchange(held_, held) || resting_) return;
  watch_all(!held);
}

std::vector<std::string> TcpListeners::texts() const {
  std::vector<std::string> texts;
  for (const auto& socket : sockets_) {
    const auto address = shm::address_from_text(socket->config.address, 0);
    const bool here = !address || is_own_address(shm::host_of(*address));
    texts.push_back(name_of(socket->config, socket->port) + (here ? "" : ", waiting for its address"));
  }
  return texts;
}

void TcpListeners::watch_all(bool on) {
  for (const auto& socket : sockets_) {
    if (socket->watch) on ? socket->watch->start() : socket->watch->stop();
  }
}

void TcpListeners::accept_some(Socket& socket) {
  for (int i = 0; i < kAcceptsPerWake && !held_ && !resting_; ++i) {
    sockaddr_storage peer{};
    socklen_t length = sizeof peer;
    shm::UniqueFd connection(
        accept4(socket.fd.get(), reinterpret_cast<sockaddr*>(&peer), &length, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!connection.valid()) {
      const int error = errno;
      if (error == EAGAIN || error == EWOULDBLOCK) return;
      if (shm::no_room_to_accept(error)) return rest(error);
      continue;  // that one connection's own trouble (accept(2): treat network errors like EAGAIN)
    }
    sockaddr_storage local{};
    length = sizeof local;
    if (getsockname(connection.get(), reinterpret_cast<sockaddr*>(&local), &length) != 0) continue;
    accepted_(std::move(connection), peer, local);
  }
}

void TcpListeners::rest(int error) {
  resting_ = true;
  watch_all(false);
  rest_timer_.start(kRestMs);
  if (const auto held_back = rest_log_.pass("accept", loop_.now())) {
    log::write(log::Level::error,
               "accept: %s; new clients have to wait, next try in %" PRIu64
               " ms (raise LimitNOFILE of the unit, or lower "
               "/limits/connections; %" PRIu64 " such lines held back)",
               std::strerror(error), kRestMs, *held_back);
  }
}

}  // namespace smbdirect::daemon
