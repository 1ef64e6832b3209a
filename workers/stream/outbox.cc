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

/// Room for one descriptor beside a message.
struct Control {
  alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(sizeof(int))> bytes{};

  void attach(msghdr& message, int descriptor) {
    message.msg_control = bytes.data();
    message.msg_controllen = bytes.size();
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof descriptor);
    std::memcpy(CMSG_DATA(header), &descriptor, sizeof descriptor);
  }
};

}  // namespace

void Outbox::push(SlabRef owner, std::span<const std::byte> bytes) {
  if (bytes.empty()) return;
  Piece& piece = add();
  piece.owner = std::move(owner);
  piece.bytes = bytes;
  bytes_ += bytes.size();
}

void Outbox::push_copy(std::span<const std::byte> bytes) {
  assert(bytes.size() <= kInlineBytes);
  if (bytes.empty()) return;
  Piece& piece = add();
  std::memcpy(piece.inline_bytes.data(), bytes.data(), bytes.size());
  piece.inline_size = static_cast<uint8_t>(bytes.size());
  bytes_ += bytes.size();
}

void Outbox::push_descriptor(shm::UniqueFd descriptor) {
  descriptor_ = std::move(descriptor);
  if (descriptor_.valid()) ++descriptors_;
}

Outbox::Piece& Outbox::add() {
  if (charge_) charge_->add(sizeof(Piece));
  Piece& piece = pieces_.push({});
  piece.descriptor = std::move(descriptor_);
  return piece;
}

void Outbox::drop_front() {
  (void)pieces_.pop();
  if (charge_) charge_->sub(sizeof(Piece));
}

shm::Result<Outbox::Flush> Outbox::flush(int fd) {
  while (!pieces_.empty()) {
    std::array<iovec, kMaxIov> iov{};
    const size_t most = std::min(kMaxIov, pieces_.size());
    size_t count = 0;
    size_t offered = 0;
    // A descriptor goes with the first byte of what is sent together.
    for (; count < most && (count == 0 || !pieces_.at(count).descriptor.valid()); ++count) {
      const auto view = pieces_.at(count).view();
      iov[count] = {const_cast<std::byte*>(view.data()), view.size()};
      offered += view.size();
    }
    msghdr message{};
    message.msg_iov = iov.data();
    message.msg_iovlen = count;
    Control control;
    if (pieces_.front().descriptor.valid()) control.attach(message, pieces_.front().descriptor.get());
    const ssize_t n = ::sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0) {
      if (errno == EINTR) continue;
      if (errno == EAGAIN || errno == EWOULDBLOCK) return Flush::blocked;
      return shm::fail("writing to the stream", errno);
    }
    if (pieces_.front().descriptor.valid()) {  // with the first byte it has gone
      pieces_.front().descriptor.reset();
      --descriptors_;
    }
    auto left = static_cast<size_t>(n);
    bytes_ -= left;
    const bool all = left == offered;
    while (left > 0) {
      Piece& piece = pieces_.front();
      const size_t size = piece.view().size();
      if (size <= left) {
        left -= size;
        drop_front();
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
  while (!pieces_.empty()) drop_front();
  descriptor_.reset();
  descriptors_ = 0;
  bytes_ = 0;
}

}  // namespace smbdirect::workers
