// SPDX-License-Identifier: MIT
#include "protocol/proxy/peer/inbox.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <sys/socket.h>

namespace smbdirect::protocol::proxy::peer {
namespace {

constexpr size_t kUsualCapacity = size_t{64} * 1024;
/// An idle channel keeps no more than this for the next large message.
constexpr size_t kKeptCapacity = size_t{1024} * 1024;
/// Less room at the end than this is not worth a system call.
constexpr size_t kLeastRoom = 4096;
/// No frame brings more than one; the rest of a message's are closed.
constexpr size_t kMaxDescriptors = 4;
/// Honest senders have up to two on their way: one of a frame that is not whole yet, one that came with its
/// end.
constexpr size_t kMaxArrived = 4;

}  // namespace

Inbox::Inbox(Sender other) : other_(other) { arrived_.reserve(kMaxArrived + 1); }

int Inbox::next(int socket, Frame& frame) {
  consume();
  for (;;) {
    const std::span<const std::byte> bytes = unread();
    if (bytes.size() < kFrameHeaderBytes) {
      make_room(kFrameHeaderBytes);
    } else {
      const auto header = parse_frame_header(bytes.first<kFrameHeaderBytes>(), other_);
      if (!header) return -EPROTO;
      const size_t whole = kFrameHeaderBytes + header->length;
      if (bytes.size() >= whole) {
        frame = {.header = *header, .body = bytes.subspan(kFrameHeaderBytes, header->length)};
        current_ = whole;
        return 1;
      }
      make_room(whole);
    }
    if (const int got = fill(socket); got <= 0) return got;
  }
}

std::span<const std::byte> Inbox::unread() const {
  return {bytes_.get() + begin_ + current_, end_ - begin_ - current_};
}

bool Inbox::descriptor_waits() const {
  return !arrived_.empty() && arrived_.back().end > position_ + current_;
}

void Inbox::restore(std::span<const std::byte> unread) {
  make_room(unread.size());
  std::ranges::copy(unread, bytes_.get());
  end_ = unread.size();
}

void Inbox::consume() {
  begin_ += current_;
  position_ += current_;
  current_ = 0;
  if (begin_ == end_) begin_ = end_ = 0;
}

/// There is room for `whole` bytes from begin_ on, and a little at the end.
void Inbox::make_room(size_t whole) {
  const size_t filled = end_ - begin_;
  const size_t usual = std::max(whole, kUsualCapacity);
  const bool shrink = filled == 0 && capacity_ > kKeptCapacity && usual < capacity_;
  if (capacity_ < whole || capacity_ == 0 || shrink) {
    auto larger = std::make_unique_for_overwrite<std::byte[]>(usual);
    std::copy_n(bytes_.get() + begin_, filled, larger.get());
    bytes_ = std::move(larger);
    capacity_ = usual;
  } else if (begin_ > 0 && (capacity_ - begin_ < whole || capacity_ - end_ < kLeastRoom)) {
    std::memmove(bytes_.get(), bytes_.get() + begin_, filled);
  } else {
    return;
  }
  begin_ = 0;
  end_ = filled;
}

/// 1: something was read; 0: there is nothing now.
int Inbox::fill(int socket) {
  alignas(cmsghdr)
      std::array<std::byte, CMSG_SPACE(kMaxDescriptors * sizeof(int)) + CMSG_SPACE(sizeof(ucred))>
          control{};
  iovec piece{.iov_base = bytes_.get() + end_, .iov_len = capacity_ - end_};
  msghdr message{};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  ssize_t got = 0;
  do {
    got = recvmsg(socket, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  } while (got < 0 && errno == EINTR);
  if (got < 0) return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : -errno;
  const uint64_t first = position_ + (end_ - begin_);
  keep_descriptors(&message, first, first + static_cast<size_t>(got));
  if (got == 0) return -ECONNRESET;
  end_ += static_cast<size_t>(got);
  return 1;
}

/// The kernel returns no bytes beyond those that descriptors came with, but it may return bytes before them:
/// which frame they belong to is found when one is asked for its descriptor.
void Inbox::keep_descriptors(const void* received, uint64_t first, uint64_t end) {
  auto message = *static_cast<const msghdr*>(received);
  OwnedFd kept;
  const bool lost = (message.msg_flags & MSG_CTRUNC) != 0;
  for (cmsghdr* part = CMSG_FIRSTHDR(&message); part != nullptr; part = CMSG_NXTHDR(&message, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(part) + i * sizeof fd, sizeof fd);
      OwnedFd owned(fd);
      if (!kept.valid()) kept = std::move(owned);
    }
  }
  if (!kept.valid() && !lost) return;
  if (arrived_.size() == kMaxArrived) arrived_.erase(arrived_.begin());
  arrived_.push_back({.first = first, .end = end, .fd = std::move(kept)});
}

std::expected<OwnedFd, int> Inbox::take_descriptor() {
  while (!arrived_.empty() && arrived_.front().end <= position_) arrived_.erase(arrived_.begin());
  if (arrived_.empty() || arrived_.front().first > position_) return std::unexpected(-EPROTO);
  OwnedFd fd = std::move(arrived_.front().fd);
  arrived_.erase(arrived_.begin());
  if (!fd.valid()) return std::unexpected(-EMFILE);
  return fd;
}

}  // namespace smbdirect::protocol::proxy::peer
