// SPDX-License-Identifier: MIT
#include "workers/stream/reader.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <cerrno>
#include <cstring>
#include <sys/socket.h>
#include <sys/uio.h>

namespace smbdirect::workers {

namespace {

constexpr size_t kMaxSlabsPerRead = 8;

}  // namespace

/// Room for the sender's credentials and nothing else: the kernel puts them first and drops what has no room.
ssize_t receive_from(int fd, std::span<iovec> into, pid_t& sender) {
  alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(sizeof(ucred))> control{};
  msghdr message{};
  message.msg_iov = into.data();
  message.msg_iovlen = into.size();
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  const ssize_t n = ::recvmsg(fd, &message, MSG_CMSG_CLOEXEC);
  if (n <= 0) return n;
  const cmsghdr* header = CMSG_FIRSTHDR(&message);
  if (header != nullptr && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_CREDENTIALS) {
    ucred from{};
    std::memcpy(&from, CMSG_DATA(header), sizeof from);
    sender = from.pid;
  }
  return n;
}

shm::Result<StreamReader::Fill> StreamReader::fill(int fd, size_t limit, pid_t* sender, bool floor) {
  // Room at the end of the last slab first, then fresh slabs.
  std::array<iovec, kMaxSlabsPerRead> iov{};
  std::array<SlabRef, kMaxSlabsPerRead> fresh;
  size_t count = 0;
  size_t room = 0;
  const bool tail = !extents_.empty() && extents_.back().end < pool_.slab_size();
  if (tail) {
    Extent& last = extents_.back();
    if (last.begin == last.end && last.slab.sole()) last.begin = last.end = 0;
    iov[count++] = {last.slab.bytes().data() + last.end, pool_.slab_size() - last.end};
    room = pool_.slab_size() - last.end;
  }
  while (room < limit && count < kMaxSlabsPerRead) {
    const bool must = floor && count == 0 && extents_.size() <= 1;
    SlabRef slab = must ? pool_.acquire_forced(budget_) : pool_.acquire(budget_);
    if (!slab) break;
    iov[count] = {slab.bytes().data(), slab.bytes().size()};
    room += slab.bytes().size();
    fresh[count] = std::move(slab);
    ++count;
  }
  if (count == 0) return Fill::no_memory;

  ssize_t n = 0;
  do {
    n = sender == nullptr ? ::readv(fd, iov.data(), static_cast<int>(count))
                          : receive_from(fd, std::span(iov).first(count), *sender);
  } while (n < 0 && errno == EINTR);
  if (n < 0) {
    if (errno == EAGAIN || errno == EWOULDBLOCK) return Fill::drained;
    return shm::fail("reading from the stream", errno);
  }
  if (n == 0) return Fill::end;

  auto left = static_cast<size_t>(n);
  available_ += left;
  for (size_t i = 0; i < count && left > 0; ++i) {
    const size_t here = std::min(left, iov[i].iov_len);
    if (fresh[i]) {
      extents_.push({std::move(fresh[i]), 0, static_cast<uint32_t>(here)});
    } else {
      extents_.back().end += static_cast<uint32_t>(here);
    }
    left -= here;
  }
  return static_cast<size_t>(n) == room ? Fill::more : Fill::drained;
}

bool StreamReader::put(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    if (extents_.empty() || extents_.back().end == pool_.slab_size()) {
      SlabRef slab = pool_.acquire(budget_);
      if (!slab) return false;
      extents_.push({std::move(slab), 0, 0});
    }
    Extent& last = extents_.back();
    const size_t here = std::min<size_t>(bytes.size(), pool_.slab_size() - last.end);
    std::memcpy(last.slab.bytes().data() + last.end, bytes.data(), here);
    last.end += static_cast<uint32_t>(here);
    available_ += here;
    bytes = bytes.subspan(here);
  }
  return true;
}

std::span<const std::byte> StreamReader::peek(size_t count, std::span<std::byte> scratch) {
  assert(count <= available_);
  Extent& first = extents_.front();
  if (first.end - first.begin >= count) return first.slab.bytes().subspan(first.begin, count);
  size_t have = 0;
  for (size_t i = 0; have < count; ++i) {
    Extent& extent = extents_.at(i);
    const size_t here = std::min<size_t>(count - have, extent.end - extent.begin);
    std::memcpy(scratch.data() + have, extent.slab.bytes().data() + extent.begin, here);
    have += here;
  }
  return scratch.first(count);
}

std::span<const std::byte> StreamReader::front(size_t most) {
  const Extent& first = extents_.front();
  return first.slab.bytes().subspan(first.begin, std::min<size_t>(most, first.end - first.begin));
}

StreamReader::Chunk StreamReader::take(size_t most) {
  assert(available_ > 0 && most > 0);
  Extent& first = extents_.front();
  const auto here = static_cast<uint32_t>(std::min<size_t>(most, first.end - first.begin));
  Chunk chunk{first.slab.share(), first.slab.bytes().subspan(first.begin, here)};
  first.begin += here;
  available_ -= here;
  // An exhausted slab is released to the reference that took its last bytes; but the last one with room at
  // its end takes the next read as well, so that small messages share a slab.
  if (first.begin == first.end && (extents_.size() > 1 || first.end == pool_.slab_size())) {
    (void)extents_.pop();
  }
  return chunk;
}

void StreamReader::trim() {
  if (available_ == 0 && !extents_.empty() && extents_.front().slab.sole()) extents_.clear();
}

void StreamReader::skip(size_t count) {
  while (count > 0) count -= take(count).bytes.size();
}

void StreamReader::clear() {
  extents_.clear();
  available_ = 0;
}

}  // namespace smbdirect::workers
