// SPDX-License-Identifier: MIT
#include "tests/load/iwarp_client.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

namespace smbdirect::tests::load {

namespace {

constexpr int kPatienceMs = 3'000;
constexpr size_t kMessage = 8192;

bool ready(int fd, short what, int wait_ms) {
  pollfd p{fd, what, 0};
  return ::poll(&p, 1, wait_ms) == 1;
}

}  // namespace

void put(Bytes& bytes, uint64_t value, size_t width) {
  for (size_t i = 0; i < width; ++i) bytes.push_back(static_cast<uint8_t>(i < 8 ? value >> (8 * i) : 0));
}

void put_wire(Bytes& bytes, uint64_t value, size_t width) {
  for (size_t i = width; i > 0; --i) bytes.push_back(static_cast<uint8_t>(value >> (8 * (i - 1))));
}

bool IwarpClient::connect(const sockaddr_in& from, const sockaddr_in& to) {
  fd_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  const int one = 1;
  // The port is chosen when both ends are known: the same one serves other pairs.
  ::setsockopt(fd_, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
  ::setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  if (::bind(fd_, reinterpret_cast<const sockaddr*>(&from), sizeof from) != 0) return false;
  if (::connect(fd_, reinterpret_cast<const sockaddr*>(&to), sizeof to) == 0) return true;
  return errno == EINPROGRESS && ready(fd_, POLLOUT, kPatienceMs);
}

void IwarpClient::close(bool reset) {
  if (fd_ < 0) return;
  const linger now{.l_onoff = 1, .l_linger = 0};
  if (reset) ::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &now, sizeof now);
  ::close(fd_);
  fd_ = -1;
}

bool IwarpClient::flush() {
  for (size_t at = 0; at < out_.size();) {
    const ssize_t n = ::send(fd_, out_.data() + at, out_.size() - at, MSG_NOSIGNAL);
    if (n > 0) {
      at += static_cast<size_t>(n);
    } else if (errno != EAGAIN || !ready(fd_, POLLOUT, kPatienceMs)) {
      out_.clear();
      return false;
    }
  }
  out_.clear();
  return true;
}

bool IwarpClient::raw(const Bytes& bytes) {
  out_.insert(out_.end(), bytes.begin(), bytes.end());
  return flush();
}

bool IwarpClient::fill(int wait_ms) {
  if (!ready(fd_, POLLIN, wait_ms)) return false;
  uint8_t some[65536];
  const ssize_t n = ::recv(fd_, some, sizeof some, 0);
  if (n <= 0) return false;
  in_.erase(in_.begin(), in_.begin() + static_cast<ptrdiff_t>(in_at_));
  in_at_ = 0;
  in_.insert(in_.end(), some, some + n);
  return true;
}

bool IwarpClient::mpa() {
  Bytes request;
  for (const char c : std::string_view("MPA ID Req Frame")) request.push_back(static_cast<uint8_t>(c));
  put_wire(request, 0x10, 1);  // no CRC, RFC 6581
  put_wire(request, 2, 1);
  put_wire(request, 4, 2);
  put_wire(request, 16, 2);
  put_wire(request, 16, 2);
  if (!raw(request)) return false;
  while (in_.size() < 20 || in_.size() < 20U + (in_[18] << 8U | in_[19])) {
    if (!fill(kPatienceMs)) return false;
  }
  in_at_ = 20U + (in_[18] << 8U | in_[19]);
  return (in_[16] & 0x60) == 0;  // neither CRC nor refused
}

/// RFC 5044 4.1 around RFC 5041 4.3 around the message.
void IwarpClient::frame(const Bytes& message) {
  const size_t at = out_.size();
  put_wire(out_, 18 + message.size(), 2);
  put_wire(out_, 0x4143, 2);  // last; version 1; SEND
  put_wire(out_, 0, 4);
  put_wire(out_, 0, 4);
  put_wire(out_, ++msn_, 4);
  put_wire(out_, 0, 4);
  out_.insert(out_.end(), message.begin(), message.end());
  while ((out_.size() - at) % 4 != 0) out_.push_back(0);
  put_wire(out_, 0, 4);
}

bool IwarpClient::send(const Bytes& message) {
  frame(message);
  --credits_;
  return flush();
}

/// Every whole FPDU that is here. False for a Terminate.
bool IwarpClient::parse() {
  while (in_.size() - in_at_ >= 2) {
    const size_t length = in_[in_at_] << 8U | in_[in_at_ + 1];
    const size_t whole = (2 + length + 3) / 4 * 4 + 4;
    if (in_.size() - in_at_ < whole) break;
    const uint8_t* message = in_.data() + in_at_ + 20;
    const uint8_t opcode = in_[in_at_ + 3] & 15U;
    if (opcode == 7) return false;
    if ((opcode == 3 || opcode == 4) && length >= 18 + 20) {
      last_.assign(message, message + (length - 18));
      if (negotiated_) {
        credits_ += last_[2] | last_[3] << 8;
        ++owed_;
        if (last_.size() > 24) ++heard_;
      }
    }
    in_at_ += whole;
  }
  return true;
}

bool IwarpClient::hear(int wait_ms) {
  if (!ready(fd_, POLLIN, wait_ms)) return true;
  return fill(0) && parse();
}

bool IwarpClient::negotiate() {
  Bytes request;  // MS-SMBD 2.2.1
  put(request, 0x0100, 2);
  put(request, 0x0100, 2);
  put(request, 0, 2);
  put(request, 255, 2);
  put(request, kMessage, 4);
  put(request, kMessage, 4);
  put(request, 8 << 20, 4);
  if (!send(request)) return false;
  while (last_.size() < 32) {
    if (!fill(kPatienceMs) || !parse()) return false;
  }
  negotiated_ = true;
  credits_ = last_[10] | last_[11] << 8;
  owed_ = 200;
  return credits_ > 0;
}

bool IwarpClient::say(const Bytes& pdu, size_t fragment) {
  for (size_t at = 0; at < pdu.size() || pdu.empty();) {
    const auto until = std::chrono::steady_clock::now() + std::chrono::milliseconds(kPatienceMs);
    if (credits_ < 2 && !flush()) return false;
    while (credits_ < 2) {
      if (std::chrono::steady_clock::now() > until || !hear(kPatienceMs / 10)) return false;
      if (owed_ > 0 && credits_ == 1) break;  // the last one is for a grant
    }
    const size_t here = std::min({fragment, pdu.size() - at, kMessage - 24});
    Bytes message;  // MS-SMBD 2.2.3
    put(message, 255, 2);
    put(message, static_cast<uint64_t>(owed_), 2);
    put(message, 0, 4);
    put(message, pdu.size() - at - here, 4);
    put(message, pdu.empty() ? 0 : 24, 4);
    put(message, here, 4);
    if (!pdu.empty()) put(message, 0, 4);
    message.insert(message.end(), pdu.begin() + static_cast<ptrdiff_t>(at),
                   pdu.begin() + static_cast<ptrdiff_t>(at + here));
    owed_ = 0;
    frame(message);
    --credits_;
    at += here;
    if (out_.size() > 32'000 && !flush()) return false;
    if (pdu.empty()) break;
  }
  return flush();
}

bool IwarpClient::smb2_negotiate(uint64_t guid) {
  Bytes body;  // MS-SMB2 2.2.3
  put(body, 36, 2);
  put(body, 1, 2);
  put(body, 1, 4);
  put(body, 0x7F, 4);
  put(body, guid, 8);
  put(body, ~guid, 8);
  put(body, 0, 8);
  put(body, 0x0302, 2);
  if (!say(smb2_request(0, 0, body), kMessage)) return false;
  const uint64_t before = heard_;
  for (int i = 0; i < 10 && heard_ == before; ++i) {
    if (!hear(kPatienceMs)) return false;
  }
  return heard_ > before;
}

Bytes smb2_request(uint16_t command, uint64_t message_id, const Bytes& body) {
  Bytes pdu;
  put(pdu, 0x424D53FE, 4);
  put(pdu, 64, 2);
  put(pdu, 1, 2);
  put(pdu, 0, 4);
  put(pdu, command, 2);
  put(pdu, 512, 2);
  put(pdu, 0, 8);
  put(pdu, message_id, 8);
  put(pdu, 0, 32);
  pdu.resize(64);
  pdu.insert(pdu.end(), body.begin(), body.end());
  return pdu;
}

}  // namespace smbdirect::tests::load
