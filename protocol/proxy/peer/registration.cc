// SPDX-License-Identifier: MIT
#include "protocol/proxy/peer/registration.h"

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <poll.h>

#include "protocol/proxy/peer/addresses.h"

namespace smbdirect::protocol::proxy::peer {
namespace {

constexpr int kMaxErrno = 4095;

int refusal(uint16_t error) { return error == 0 || error > kMaxErrno ? -EPROTO : -int{error}; }

}  // namespace

std::expected<Registration, int> Registration::open(std::string_view control_socket) {
  const Deadline deadline(kPatience);
  auto socket = connect_to(control_socket, deadline);
  if (!socket) return std::unexpected(socket.error());
  Registration registration(std::move(*socket));
  // sendmsg() does not write to what it sends.
  const iovec line{.iov_base = const_cast<char*>(kRegisterLine.data()), .iov_len = kRegisterLine.size()};
  if (const int result = registration.outbox_.send(registration.fd(), {&line, 1}); result != 0) {
    return std::unexpected(result);
  }
  if (const int result = registration.await_answer(deadline); result != 0) return std::unexpected(result);
  return registration;
}

int Registration::await_answer(const Deadline& deadline) {
  for (;;) {
    Frame frame{};
    const int got = inbox_.next(fd(), frame);
    // A control socket that does not know the command answers with a line of JSON, and no frame of the
    // daemon's begins like that.
    const auto bytes = inbox_.unread();
    if (got <= 0 && !bytes.empty() && bytes[0] == std::byte{'{'}) return -EOPNOTSUPP;
    if (got < 0) return got;
    if (got > 0 && frame.header.type == FrameType::refused) return refusal(frame.header.count);
    if (got > 0) {
      return frame.header.type == FrameType::registered && parse_version(frame.body) ? 0 : -EPROTO;
    }
    if (const int result = wait_for(fd(), POLLIN, deadline); result != 0) return result;
  }
}

int Registration::next(smbdirect_start& start) {
  if (failure_ != 0) return failure_;
  // What failed() could not send; if it cannot be sent at all, reading tells why.
  (void)outbox_.flush(fd());
  Frame frame{};
  const int got = inbox_.next(fd(), frame);
  if (got == 0) return 0;
  if (got < 0) return failure_ = got;
  if (frame.header.type == FrameType::refused) return failure_ = -ECONNRESET;
  if (frame.header.type != FrameType::start) return failure_ = -EPROTO;
  const auto parsed = parse_start(frame.body);
  if (!parsed) return failure_ = -EPROTO;
  start = {.number = frame.header.id,
           .cookie = {},
           .client_guid = {},
           .client = to_sockaddr(parsed->client),
           .socket = {}};
  copy_bytes(parsed->cookie.bytes, start.cookie);
  copy_bytes(parsed->client_guid.bytes, start.client_guid);
  std::ranges::copy(parsed->socket, start.socket);
  return 1;
}

int Registration::failed(uint64_t number, int error) {
  const int positive = std::clamp(error == INT_MIN ? 0 : std::abs(error), 1, kMaxErrno);
  auto header =
      encode_header({.type = FrameType::failed, .count = static_cast<uint16_t>(positive), .id = number});
  const iovec piece{.iov_base = header.data(), .iov_len = header.size()};
  return outbox_.send(fd(), {&piece, 1});
}

}  // namespace smbdirect::protocol::proxy::peer
