// SPDX-License-Identifier: MIT
// UNIX sockets as tests play with them: pairs, and bytes with descriptors, any number of them, as a broken or
// hostile other side might send them too. Of the process that uses it; needs no doctest, so that the tests'
// tools use it too.
#pragma once

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <filesystem>
#include <optional>
#include <span>
#include <sys/socket.h>
#include <sys/stat.h>
#include <system_error>
#include <utility>
#include <vector>

#include "shm/base/unique_fd.h"

namespace smbdirect::test {

/// `type` with its flags; both ends are closed on exec. Throws std::system_error.
inline std::pair<shm::UniqueFd, shm::UniqueFd> socket_pair(int type = SOCK_STREAM | SOCK_NONBLOCK) {
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, ends.data()) != 0) {
    throw std::system_error(errno, std::generic_category(), "socketpair");
  }
  return {shm::UniqueFd(ends[0]), shm::UniqueFd(ends[1])};
}

/// One sendmsg: what it returns.
inline ssize_t send_with(int socket, std::span<const std::byte> bytes,
                         std::span<const int> descriptors = {}) {
  iovec piece{const_cast<std::byte*>(bytes.data()), bytes.size()};
  msghdr message{};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  std::vector<std::byte> control(CMSG_SPACE(descriptors.size_bytes()));  // new[] aligns it for a cmsghdr
  if (!descriptors.empty()) {
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    cmsghdr* part = CMSG_FIRSTHDR(&message);
    part->cmsg_level = SOL_SOCKET;
    part->cmsg_type = SCM_RIGHTS;
    part->cmsg_len = CMSG_LEN(descriptors.size_bytes());
    std::memcpy(CMSG_DATA(part), descriptors.data(), descriptors.size_bytes());
  }
  return ::sendmsg(socket, &message, MSG_NOSIGNAL);
}
inline ssize_t send_with(int socket, std::span<const std::byte> bytes, int descriptor) {
  return send_with(socket, bytes, std::span(&descriptor, 1));
}

/// What one recvmsg gives: bytes, and the descriptors that came with them.
struct Seen {
  size_t bytes = 0;
  std::vector<shm::UniqueFd> descriptors;
  bool truncated = false;  // there were more descriptors
};
/// Nothing at the end of the stream, and when there is an error (errno).
inline std::optional<Seen> receive_with(int socket, std::span<std::byte> into, int flags = 0) {
  constexpr size_t kMost = 8;
  alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(kMost * sizeof(int))> control{};
  iovec piece{into.data(), into.size()};
  msghdr message{};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  errno = 0;
  const ssize_t got = ::recvmsg(socket, &message, flags | MSG_CMSG_CLOEXEC);
  if (got <= 0) return std::nullopt;
  Seen seen{.bytes = size_t(got), .descriptors = {}, .truncated = (message.msg_flags & MSG_CTRUNC) != 0};
  for (cmsghdr* part = CMSG_FIRSTHDR(&message); part != nullptr; part = CMSG_NXTHDR(&message, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
    for (size_t at = CMSG_LEN(0); at + sizeof(int) <= part->cmsg_len; at += sizeof(int)) {
      int descriptor = -1;
      std::memcpy(&descriptor, CMSG_DATA(part) + at - CMSG_LEN(0), sizeof descriptor);
      seen.descriptors.emplace_back(descriptor);
    }
  }
  return seen;
}

/// By which a file is known again, whatever descriptor it has. Throws std::system_error.
inline ino_t inode(int descriptor) {
  struct stat status{};
  if (::fstat(descriptor, &status) != 0) throw std::system_error(errno, std::generic_category(), "fstat");
  return status.st_ino;
}

/// Of this process.
inline size_t open_descriptors() {
  size_t count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) ++count;
  return count;
}

}  // namespace smbdirect::test
