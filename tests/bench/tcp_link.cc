// SPDX-License-Identifier: MIT
#include "tests/bench/tcp_link.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/uio.h>

namespace smbdirect::tests::bench {

namespace {
constexpr size_t kNbtBytes = 4;
constexpr size_t kMostIov = 64;
// Reads per wake-up, so that writing gets its turn.
constexpr int kReadsPerWake = 16;
}  // namespace

TcpLink::TcpLink(uv_loop_t& loop, const sockaddr_in& to, Owner& owner)
    : loop_(loop), to_(to), owner_(owner), deferred_end_(loop, [this] {
        socket_.reset();
        owner_.on_closed(end_why_, end_clean_);
      }) {}

void TcpLink::start() {
  shm::UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return end(std::string("socket: ") + std::strerror(errno), false);
  const int on = 1;
  (void)::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&to_), sizeof(to_)) != 0 &&
      errno != EINPROGRESS) {
    return end(std::string("connect: ") + std::strerror(errno), false);
  }
  connecting_ = true;
  socket_ = shm::Watched(loop_, std::move(fd), [this](int events, int status) { on_events(events, status); });
  want();
}

void TcpLink::end(const std::string& why, bool clean) {
  if (ended_) return;
  ended_ = true;
  end_why_ = why;
  end_clean_ = clean;
  socket_.want(0);
  deferred_end_.trigger();
}

void TcpLink::close() { end("closed", true); }

void TcpLink::want() {
  if (ended_) return;
  const bool write = connecting_ || !requests_.empty();
  socket_.want((connecting_ ? 0 : UV_READABLE) | (write ? UV_WRITABLE : 0));
}

void TcpLink::send(std::span<const std::byte> head, std::span<const std::byte> payload) {
  Request& request = requests_.push({});
  const size_t length = head.size() + payload.size();
  const std::array<std::byte, kNbtBytes> word{std::byte{0}, std::byte(length >> 16), std::byte(length >> 8),
                                              std::byte(length)};
  std::memcpy(request.head.data(), word.data(), word.size());
  std::memcpy(request.head.data() + word.size(), head.data(), std::min(head.size(), kMostHead - kNbtBytes));
  request.head_size = word.size() + head.size();
  request.payload = payload;
}

void TcpLink::flush() {
  while (!ended_ && !connecting_ && !requests_.empty()) {
    std::array<iovec, kMostIov> iov;
    size_t n = 0;
    size_t bytes = 0;
    for (size_t i = 0; i < requests_.size() && n + 2 <= kMostIov; ++i) {
      Request& request = requests_.at(i);
      if (request.sent < request.head_size) {
        iov[n++] = {request.head.data() + request.sent, request.head_size - request.sent};
        bytes += request.head_size - request.sent;
      }
      const size_t done = request.sent > request.head_size ? request.sent - request.head_size : 0;
      if (done < request.payload.size()) {
        iov[n++] = {const_cast<std::byte*>(request.payload.data()) + done, request.payload.size() - done};
        bytes += request.payload.size() - done;
      }
    }
    msghdr message{};
    message.msg_iov = iov.data();
    message.msg_iovlen = n;
    const ssize_t sent = ::sendmsg(socket_.fd(), &message, MSG_NOSIGNAL);
    if (sent < 0) {
      if (errno == EINTR) continue;
      if (errno == EAGAIN) break;
      return end(std::string("send: ") + std::strerror(errno), false);
    }
    auto left = static_cast<size_t>(sent);
    while (left > 0) {
      Request& request = requests_.front();
      const size_t open = request.head_size + request.payload.size() - request.sent;
      const size_t taken = std::min(open, left);
      request.sent += taken;
      left -= taken;
      if (taken == open) (void)requests_.pop();
    }
    if (static_cast<size_t>(sent) < bytes) break;
  }
  want();
}

void TcpLink::on_events(int events, int status) {
  if (status < 0) return end(uv_strerror(status), false);
  if (connecting_) {
    int error = 0;
    socklen_t length = sizeof(error);
    (void)::getsockopt(socket_.fd(), SOL_SOCKET, SO_ERROR, &error, &length);
    if (error != 0) return end(std::string("connect: ") + std::strerror(error), false);
    connecting_ = false;
    owner_.on_ready();
    return flush();
  }
  if ((events & UV_READABLE) != 0) read_some();
  flush();
}

void TcpLink::read_some() {
  for (int i = 0; i < kReadsPerWake && !ended_; ++i) {
    std::array<iovec, 2> iov{iovec{body_.data(), body_.size()},
                             iovec{stage_.data() + staged_, kStageBytes - staged_}};
    const size_t wanted = iov[0].iov_len + iov[1].iov_len;
    const ssize_t got = ::readv(socket_.fd(), iov.data() + (body_.empty() ? 1 : 0), body_.empty() ? 1 : 2);
    if (got < 0) {
      if (errno == EINTR) continue;
      if (errno != EAGAIN) end(std::string("read: ") + std::strerror(errno), false);
      return;
    }
    if (got == 0) return end("the peer closed the connection", true);
    const size_t to_body = std::min(static_cast<size_t>(got), body_.size());
    body_ = body_.subspan(to_body);
    staged_ += static_cast<size_t>(got) - to_body;
    if (!parse()) return end("a length word or body does not fit", false);
    if (static_cast<size_t>(got) < wanted) return;
  }
}

bool TcpLink::parse() {
  size_t used = 0;
  while (!ended_) {
    if (in_body_) {
      if (!body_.empty()) break;
      in_body_ = false;
      owner_.on_pdu();
      continue;
    }
    if (staged_ - used < kNbtBytes) break;
    const auto at = [&](size_t i) { return std::to_integer<size_t>(stage_[used + i]); };
    if (at(0) != 0) return false;
    const size_t total = at(1) << 16 | at(2) << 8 | at(3);
    const size_t head = std::min(total, kHeadBytes);
    if (staged_ - used < kNbtBytes + head) break;
    const std::span<const std::byte> bytes(stage_.data() + used + kNbtBytes, head);
    used += kNbtBytes + head;
    body_ = owner_.on_head(bytes, total - head);
    if (body_.size() != total - head) return false;
    in_body_ = true;
    const size_t here = std::min(body_.size(), staged_ - used);
    if (here > 0) std::memcpy(body_.data(), stage_.data() + used, here);
    body_ = body_.subspan(here);
    used += here;
  }
  staged_ -= used;
  if (used > 0 && staged_ > 0) std::memmove(stage_.data(), stage_.data() + used, staged_);
  return true;
}

}  // namespace smbdirect::tests::bench
