// SPDX-License-Identifier: MIT
#include "protocol/proxy/peer/outbox.h"

#include <algorithm>
#include <cerrno>
#include <climits>
#include <sys/socket.h>

#include "protocol/proxy/frames.h"
#include "protocol/smb2/wire.h"

namespace smbdirect::protocol::proxy::peer {
namespace {

/// An idle channel keeps no more than this for the next burst.
constexpr size_t kKeptCapacity = size_t{1024} * 1024;

/// Bytes sent; 0: the socket takes none now; or a negated errno.
ssize_t send_some(int socket, std::span<const iovec> pieces) {
  msghdr message{};
  message.msg_iov = const_cast<iovec*>(pieces.data());  // sendmsg() does not write to it
  message.msg_iovlen = std::min(pieces.size(), size_t{IOV_MAX});
  ssize_t sent = 0;
  do {
    sent = sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
  } while (sent < 0 && errno == EINTR);
  if (sent >= 0) return sent;
  if (errno == EAGAIN || errno == EWOULDBLOCK) return 0;
  return errno == EPIPE ? -ECONNRESET : -errno;
}

}  // namespace

int Outbox::send(int socket, std::span<const iovec> pieces) {
  if (failure_ != 0) return failure_;
  size_t total = 0;
  for (const iovec& piece : pieces) total += piece.iov_len;
  size_t skip = 0;
  if (unsent().empty()) {
    const ssize_t sent = send_some(socket, pieces);
    if (sent < 0) return fail(static_cast<int>(sent));
    skip = static_cast<size_t>(sent);
    if (skip == total) return 0;
    first_frame_ = total - skip;
  }
  // What was sent in part and cannot be kept leaves the stream in the middle of a frame.
  if (skip > 0) failure_ = -ENOMEM;
  if (begin_ > 0 && begin_ >= bytes_.size() / 2) {
    bytes_.erase(bytes_.begin(), bytes_.begin() + std::ptrdiff_t(begin_));
    begin_ = 0;
  }
  const size_t needed = bytes_.size() + total - skip;
  if (bytes_.capacity() < needed) bytes_.reserve(std::max(needed, 2 * bytes_.capacity()));
  for (const iovec& piece : pieces) {
    const size_t skipped = std::min(skip, piece.iov_len);
    skip -= skipped;
    const auto* from = static_cast<const std::byte*>(piece.iov_base);
    if (skipped < piece.iov_len) bytes_.insert(bytes_.end(), from + skipped, from + piece.iov_len);
  }
  failure_ = 0;
  return 0;
}

int64_t Outbox::flush(int socket) {
  while (failure_ == 0 && !unsent().empty()) {
    const iovec piece{.iov_base = bytes_.data() + begin_, .iov_len = bytes_.size() - begin_};
    const ssize_t some = send_some(socket, {&piece, 1});
    if (some < 0) return fail(static_cast<int>(some));
    if (some == 0) break;
    sent(static_cast<size_t>(some));
  }
  return failure_ != 0 ? failure_ : static_cast<int64_t>(unsent().size());
}

void Outbox::restore(std::span<const std::byte> unsent, size_t first_frame) {
  bytes_.assign(unsent.begin(), unsent.end());
  first_frame_ = first_frame;
}

void Outbox::sent(size_t bytes) {
  while (bytes >= first_frame_ && bytes > 0) {
    bytes -= first_frame_;
    begin_ += first_frame_;
    const auto rest = unsent();
    first_frame_ = rest.empty() ? 0 : kFrameHeaderBytes + smb2::wire::load32(rest, 0);
  }
  begin_ += bytes;
  first_frame_ -= bytes;
  if (begin_ < bytes_.size()) return;
  begin_ = 0;
  bytes_.clear();
  if (bytes_.capacity() > kKeptCapacity) bytes_ = {};
}

int Outbox::fail(int error) {
  failure_ = error;
  bytes_ = {};
  begin_ = first_frame_ = 0;
  return error;
}

}  // namespace smbdirect::protocol::proxy::peer
