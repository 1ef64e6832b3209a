// SPDX-License-Identifier: MIT
#include "workers/stream/outbox.h"

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <cstring>
#include <sys/socket.h>
#include <sys/uio.h>

namespace smbdirect::workers {

namespace {

constexpr size_t kMaxIov = 64;

}  // namespace

void Outbox::push(SlabRef owner, std::span<const std::byte> bytes) {
  if (bytes.empty()) return;
  Piece& piece = pieces_.push({});
  piece.owner = std::move(owner);
  piece.bytes = bytes;
  bytes_ += bytes.size();
}

void Outbox::push_copy(std::span<const std::byte> bytes) {
  assert(bytes.size() <= kInlineBytes);
  if (bytes.empty()) return;
  Piece& piece = pieces_.push({});
  std::memcpy(piece.inline_bytes.data(), bytes.data(), bytes.size());
  piece.inline_size = static_cast<uint8_t>(bytes.size());
  bytes_ += bytes.size();
}

shm::Result<Outbox::Flush> Outbox::flush(int fd) {
  while (!pieces_.empty()) {
    std::array<iovec, kMaxIov> iov{};
    const size_t count = std::min(kMaxIov, pieces_.size());
    size_t offered = 0;
    for (size_t i = 0; i < count; ++i) {
      const auto view = pieces_.at(i).view();
      iov[i] = {const_cast<std::byte*>(view.data()), view.size()};
      offered += view.size();
    }
    msghdr message{};
    message.msg_iov = iov.data();
    message.msg_iovlen = count;
    const ssize_t n = ::sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0) {
      if (errno == EINTR) continue;
      if (errno == EAGAIN || errno == EWOULDBLOCK) return Flush::blocked;
      return shm::fail("writing to the stream", errno);
    }
    auto left = static_cast<size_t>(n);
    bytes_ -= left;
    const bool all = left == offered;
    while (left > 0) {
      Piece& piece = pieces_.front();
      const size_t size = piece.view().size();
      if (size <= left) {
        left -= size;
        (void)pieces_.pop();
        continue;
      }
      if (piece.inline_size > 0) {
        piece.inline_from = static_cast<uint8_t>(piece.inline_from + left);
        piece.inline_size = static_cast<uint8_t>(piece.inline_size - left);
      } else {
        piece.bytes = piece.bytes.subspan(left);
      }
      left = 0;
    }
    if (!all) return Flush::blocked;
  }
  return Flush::done;
}

void Outbox::clear() {
  pieces_.clear();
  bytes_ = 0;
}

}  // namespace smbdirect::workers
