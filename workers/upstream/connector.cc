// SPDX-License-Identifier: MIT
#include "workers/upstream/connector.h"

#include <arpa/inet.h>
#include <cerrno>
#include <cstring>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <utility>

namespace smbdirect::workers {

namespace {

socklen_t parse_address(const std::string& address, uint16_t port, sockaddr_storage& out) {
  out = {};
  auto& v4 = reinterpret_cast<sockaddr_in&>(out);
  if (inet_pton(AF_INET, address.c_str(), &v4.sin_addr) == 1) {
    v4.sin_family = AF_INET;
    v4.sin_port = htons(port);
    return sizeof v4;
  }
  auto& v6 = reinterpret_cast<sockaddr_in6&>(out);
  if (inet_pton(AF_INET6, address.c_str(), &v6.sin6_addr) == 1) {
    v6.sin6_family = AF_INET6;
    v6.sin6_port = htons(port);
    return sizeof v6;
  }
  return 0;
}

}  // namespace

Connector::Connector(uv_loop_t& loop, std::string address, uint16_t port, uint32_t timeout_ms)
    : loop_(loop), address_(std::move(address)), port_(port), timeout_ms_(timeout_ms), timer_(loop, [this] {
        finish(shm::fail(what(), start_errno_ != 0 ? start_errno_ : ETIMEDOUT));
      }) {}

std::string Connector::what() const {
  return "connecting to smbd at " + address_ + " port " + std::to_string(port_);
}

void Connector::start(Done done) {
  done_ = std::move(done);
  sockaddr_storage to{};
  const socklen_t length = parse_address(address_, port_, to);
  shm::UniqueFd fd(::socket(to.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (length == 0 || !fd.valid()) {
    start_errno_ = length == 0 ? EINVAL : errno;
    timer_.start(0);  // answers come from the loop, never from inside start()
    return;
  }
  const int one = 1;
  ::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&to), length) != 0 && errno != EINPROGRESS) {
    start_errno_ = errno;
    timer_.start(0);
    return;
  }
  socket_ = shm::Watched(loop_, std::move(fd), [this](int, int status) { on_ready(status); });
  socket_.want(UV_WRITABLE);
  timer_.start(timeout_ms_);
}

void Connector::on_ready(int status) {
  int error = 0;
  socklen_t length = sizeof error;
  if (::getsockopt(socket_.fd(), SOL_SOCKET, SO_ERROR, &error, &length) != 0) error = errno;
  if (error == 0) error = -status;
  if (error != 0) {
    finish(shm::fail(what(), error));
    return;
  }
  finish(socket_.release());
}

void Connector::finish(shm::Result<shm::UniqueFd> result) {
  socket_.reset();
  timer_.stop();
  // The callback may destroy this object.
  const Done done = std::move(done_);
  done(std::move(result));
}

}  // namespace smbdirect::workers
