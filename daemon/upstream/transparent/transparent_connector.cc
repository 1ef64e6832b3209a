// SPDX-License-Identifier: MIT
#include "daemon/upstream/transparent/transparent_connector.h"

#include <cerrno>
#include <cstring>
#include <netinet/in.h>
#include <random>
#include <utility>

#include "daemon/upstream/transparent/transparent_socket.h"
#include "shm/base/log.h"
#include "shm/base/socket_address.h"
#include "shm/loop/borrowed_watch.h"

namespace smbdirect::daemon {
namespace {

namespace log = shm::log;

bool is_link_local(const shm::Host& host) { return host[0] == 0xfe && (host[1] & 0xc0) == 0x80; }

/// In the family that its host really has: an IPv4 address may come in its IPv6-mapped form.
sockaddr_storage native(const sockaddr_storage& address) {
  return shm::address_from_text(shm::host_text(shm::host_of(address)), shm::port_of(address))
      .value_or(address);
}

sockaddr_storage with_port(const sockaddr_storage& address, uint16_t port) {
  return shm::address_from_text(shm::host_text(shm::host_of(address)), port).value_or(address);
}

const sockaddr* plain(const sockaddr_storage& address) { return reinterpret_cast<const sockaddr*>(&address); }

/// Another port may do.
bool is_collision(int error) { return error == EADDRINUSE || error == EADDRNOTAVAIL; }

std::string advice(int error) {
  switch (error) {
    case ECONNREFUSED:
      return "; no smbd of this host listens there";
    case ETIMEDOUT:
      return "; smbd does not accept in time, or its packets do not reach the daemon (has the routing rule "
             "of "
             "mode \"transparent\" been removed?)";
    case EPERM:
      return "; mode \"transparent\" needs CAP_NET_ADMIN";
    case ENETUNREACH:
    case EHOSTUNREACH:
    case EINVAL:
      return "; /upstream/address must be an address of this host";
    default:
      return {};
  }
}

}  // namespace

struct TransparentConnector::Attempt {
  Attempt(shm::Loop& loop, std::function<void()> overdue) : deadline(loop, std::move(overdue)) {}

  sockaddr_storage client{};
  sockaddr_storage server{};
  Done done;
  std::optional<shm::Error> failed;  // at the start; told from the loop
  SourcePorts ports{{}, 0, 0};
  shm::UniqueFd fd;
  std::optional<shm::WriteWatch> watch;  // after fd: gone before it is closed
  shm::Timer deadline;
};

TransparentConnector::TransparentConnector(shm::Loop& loop, Options options)
    : loop_(loop), options_(std::move(options)) {
  auto lookup = SocketLookup::open();
  if (lookup) {
    lookup_.emplace(std::move(*lookup));
  } else {
    log::write(log::Level::warning,
               "mode \"transparent\": %s; when smbd is not running, clients are refused only after %u ms",
               lookup.error().text().c_str(), options_.deadline_ms);
  }
}

TransparentConnector::~TransparentConnector() = default;

std::string TransparentConnector::what(const Attempt& attempt) const {
  return "connect to smbd at " + shm::address_text(attempt.server) + " from the client's address " +
         shm::host_text(shm::host_of(attempt.client));
}

uint64_t TransparentConnector::open(const sockaddr_storage& client, const sockaddr_storage& server,
                                    Done done) {
  const uint64_t number = ++last_number_;
  auto attempt = std::make_unique<Attempt>(loop_, [this, number] {
    const Attempt& overdue = *attempts_.at(number);
    if (overdue.failed) return finish(number, std::unexpected(*overdue.failed));
    finish(number, shm::fail(what(overdue) + ": " + std::strerror(ETIMEDOUT) + advice(ETIMEDOUT)));
  });
  attempt->client = native(client);
  attempt->server = native(server);
  attempt->done = std::move(done);
  auto begun = attempts_.size() >= options_.max_pending
                   ? shm::fail(what(*attempt) + ": " + std::to_string(attempts_.size()) +
                               " such connections are being made already")
                   : begin(*attempt);
  Attempt& kept = *(attempts_[number] = std::move(attempt));
  if (begun) {
    auto watch = shm::WriteWatch::make(loop_, kept.fd.get(), [this, number] { writable(number); });
    if (watch) {
      kept.watch.emplace(std::move(*watch));
    } else {
      begun = std::unexpected(watch.error());
    }
  }
  if (!begun) kept.failed = std::move(begun.error());
  kept.deadline.start(kept.failed ? 0 : options_.deadline_ms);
  return number;
}

void TransparentConnector::cancel(uint64_t number) { attempts_.erase(number); }

shm::Result<> TransparentConnector::check_families(const Attempt& attempt) const {
  const bool v6 = attempt.client.ss_family == AF_INET6;
  if (v6 != (attempt.server.ss_family == AF_INET6)) {
    const char* kind = v6 ? "IPv6" : "IPv4";
    return shm::fail(
        what(attempt) + ": the client's address is " + kind + " and smbd's is not; give an " + kind +
        " address of this host as /upstream/address, or have only listeners of the family of smbd's address");
  }
  if (v6 && !options_.no_ipv6.empty()) {
    return shm::fail(what(attempt) + ": " + options_.no_ipv6 +
                     "; IPv6 clients cannot be served by mode "
                     "\"transparent\" here");
  }
  if (v6 && is_link_local(shm::host_of(attempt.client))) {
    return shm::fail(
        what(attempt) +
        ": a link-local address is valid on its own link only; let the client use a global IPv6 address "
        "or IPv4, or set /upstream/mode to \"connect\"");
  }
  return {};
}

shm::Result<> TransparentConnector::begin(Attempt& attempt) {
  if (auto fit = check_families(attempt); !fit) return fit;
  std::random_device random;
  attempt.ports = SourcePorts(options_.ports, random(), options_.port_tries);
  return try_ports(attempt);
}

shm::Result<> TransparentConnector::try_ports(Attempt& attempt) {
  while (const uint16_t port = attempt.ports.next()) {
    const sockaddr_storage client = with_port(attempt.client, port);
    if (lookup_) {
      const auto reached = lookup_->look(client, attempt.server);
      if (reached && *reached == SocketLookup::Reached::nobody) {
        return shm::fail(what(attempt) + ": " + std::strerror(ECONNREFUSED) + advice(ECONNREFUSED));
      }
      if (reached && *reached == SocketLookup::Reached::connection) continue;  // the client's own
    }
    // A fresh one for each port: after a failed connect() a socket may not be bound again.
    auto socket = make_transparent_socket(client.ss_family, options_.mark);
    if (!socket) {
      const int error = socket.error().system_errno;
      return shm::fail(what(attempt) + ": " + socket.error().text() + advice(error));
    }
    int result = bind(socket->get(), plain(client), shm::length_of(client));
    if (result == 0) result = connect(socket->get(), plain(attempt.server), shm::length_of(attempt.server));
    const int error = result == 0 || errno == EINPROGRESS ? 0 : errno;
    if (is_collision(error)) continue;
    if (error != 0) return shm::fail(what(attempt) + ": " + std::strerror(error) + advice(error));
    attempt.fd = std::move(*socket);
    return {};
  }
  return shm::fail(what(attempt) + ": no free source port was found in " +
                   std::to_string(options_.port_tries) + " tries between " +
                   std::to_string(options_.ports.first) + " and " + std::to_string(options_.ports.last));
}

void TransparentConnector::writable(uint64_t number) {
  Attempt& attempt = *attempts_.at(number);
  int error = 0;
  socklen_t length = sizeof error;
  if (getsockopt(attempt.fd.get(), SOL_SOCKET, SO_ERROR, &error, &length) != 0) error = errno;
  if (error != 0) {
    return finish(number, shm::fail(what(attempt) + ": " + std::strerror(error) + advice(error)));
  }
  finish(number, std::move(attempt.fd));
}

void TransparentConnector::finish(uint64_t number, shm::Result<shm::UniqueFd> result) {
  // Taken out first: the callback may open or cancel others.
  const auto attempt = std::move(attempts_.extract(number).mapped());
  attempt->watch.reset();  // before the descriptor is given away
  attempt->deadline.stop();
  attempt->done(std::move(result));
}

}  // namespace smbdirect::daemon
