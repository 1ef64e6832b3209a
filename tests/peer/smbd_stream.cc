// SPDX-License-Identifier: MIT
#include "smbd_stream.h"

#include <cerrno>
#include <cstring>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/uio.h>

namespace smbdirect::tests::peer {
namespace {

constexpr int kConnectMs = 1000;
constexpr size_t kPiecesPerWrite = 64;

std::unexpected<std::string> no_smbd(int error) {
  return std::unexpected(std::string("no connection to smbd: ") + std::strerror(error));
}

}  // namespace

Outcome<SmbdAddress> parse_smbd(std::string_view text) {
  const size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return std::unexpected("HOST:PORT is wanted: " + std::string(text));
  std::string host(text.substr(0, colon));
  const std::string port(text.substr(colon + 1));
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
  addrinfo hints{};
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (const int error = ::getaddrinfo(host.c_str(), port.c_str(), &hints, &found); error != 0) {
    return std::unexpected(std::string(text) + ": " + ::gai_strerror(error));
  }
  SmbdAddress smbd;
  std::memcpy(&smbd.address, found->ai_addr, found->ai_addrlen);
  smbd.length = found->ai_addrlen;
  ::freeaddrinfo(found);
  return smbd;
}

Outcome<Fd> connect_smbd(const SmbdAddress& smbd) {
  Fd fd(::socket(smbd.address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd) return no_smbd(errno);
  const int on = 1;
  (void)::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&smbd.address), smbd.length) < 0) {
    if (errno != EINPROGRESS) return no_smbd(errno);
    pollfd wait{.fd = fd.get(), .events = POLLOUT, .revents = 0};
    if (::poll(&wait, 1, kConnectMs) <= 0) return no_smbd(ETIMEDOUT);
    int error = 0;
    socklen_t size = sizeof error;
    (void)::getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &error, &size);
    if (error != 0) return no_smbd(error);
  }
  return fd;
}

Outcome<size_t> SmbdOutbox::flush(int fd) {
  size_t gone = 0;
  while (!segments_.empty()) {
    std::array<iovec, kPiecesPerWrite> pieces{};
    size_t count = 0;
    for (const Segment& segment : segments_) {
      if (count == pieces.size()) break;
      const auto left = count == 0 ? segment.bytes.subspan(front_written_) : segment.bytes;
      pieces[count++] = {const_cast<std::byte*>(left.data()), left.size()};
    }
    msghdr message{};
    message.msg_iov = pieces.data();
    message.msg_iovlen = count;
    const ssize_t n = ::sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0) {
      if (errno == EAGAIN || errno == EINTR) break;
      return std::unexpected(std::string("writing to smbd: ") + std::strerror(errno));
    }
    gone += written(static_cast<size_t>(n));
  }
  return gone;
}

size_t SmbdOutbox::written(size_t count) {
  size_t gone = 0;
  while (!segments_.empty()) {
    Segment& front = segments_.front();
    const size_t left = front.bytes.size() - front_written_;
    if (count < left) {
      front_written_ += count;
      break;
    }
    count -= left;
    front_written_ = 0;
    if (front.request) gone += front.request->pdu.size();
    segments_.pop_front();
  }
  return gone;
}

}  // namespace smbdirect::tests::peer
