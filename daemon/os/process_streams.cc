// SPDX-License-Identifier: MIT
#include "daemon/os/process_streams.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <dirent.h>
#include <memory>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string>
#include <string_view>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "shm/base/number.h"
#include "shm/base/unique_fd.h"

// Of Linux 5.14, and the same on every processor that Debian has.
#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif

namespace smbdirect::daemon {
namespace {

template <class Value>
bool option(int descriptor, int level, int name, Value& value) {
  socklen_t length = sizeof value;
  return getsockopt(descriptor, level, name, &value, &length) == 0;
}

/// A copy of another process' descriptor. Invalid: errno says why.
shm::UniqueFd copy_of(const shm::UniqueFd& process, int number) {
  return shm::UniqueFd(int(syscall(SYS_pidfd_getfd, process.get(), number, 0)));
}

shm::UniqueFd open_process(pid_t process) { return shm::UniqueFd(int(syscall(SYS_pidfd_open, process, 0))); }

struct CloseDirectory {
  void operator()(DIR* directory) const { closedir(directory); }
};

using Directory = std::unique_ptr<DIR, CloseDirectory>;

Directory descriptors_of(pid_t process) {
  return Directory(opendir(("/proc/" + std::to_string(process) + "/fd").c_str()));
}

/// Its inode. Nothing: the descriptor is of something else, or closed.
std::optional<uint64_t> socket_inode(const Directory& directory, const char* name) {
  constexpr std::string_view kSocket = "socket:[";
  std::array<char, 64> text;  // of what is longer the beginning
  const ssize_t length = readlinkat(dirfd(directory.get()), name, text.data(), text.size());
  const std::string_view target(text.data(), size_t(std::max<ssize_t>(length, 0)));
  if (!target.starts_with(kSocket)) return std::nullopt;
  const auto digits = target.substr(kSocket.size());
  return shm::number_from_text<uint64_t>(digits.substr(0, digits.find(']')));
}

}  // namespace

std::optional<TcpStream> tcp_stream(int descriptor) {
  int domain = 0, type = 0, protocol = 0;
  tcp_info info{};
  if (!option(descriptor, SOL_SOCKET, SO_DOMAIN, domain) || !option(descriptor, SOL_SOCKET, SO_TYPE, type) ||
      !option(descriptor, SOL_SOCKET, SO_PROTOCOL, protocol) || (domain != AF_INET && domain != AF_INET6) ||
      type != SOCK_STREAM || protocol != IPPROTO_TCP || !option(descriptor, IPPROTO_TCP, TCP_INFO, info) ||
      info.tcpi_state != TCP_ESTABLISHED) {
    return std::nullopt;
  }
  sockaddr_storage local{}, remote{};
  socklen_t local_length = sizeof local, remote_length = sizeof remote;
  if (getsockname(descriptor, reinterpret_cast<sockaddr*>(&local), &local_length) != 0 ||
      getpeername(descriptor, reinterpret_cast<sockaddr*>(&remote), &remote_length) != 0) {
    return std::nullopt;
  }
  TcpStream stream{.local = shm::host_of(local),
                   .remote = shm::host_of(remote),
                   .local_port = shm::port_of(local),
                   .remote_port = shm::port_of(remote)};
  if (!option(descriptor, SOL_SOCKET, SO_NETNS_COOKIE, stream.network)) stream.network = 0;
  return stream;
}

std::vector<uint64_t> sockets_of(pid_t process) {
  std::vector<uint64_t> inodes;
  const Directory directory = descriptors_of(process);
  while (const dirent* entry = directory ? readdir(directory.get()) : nullptr) {
    if (const auto inode = socket_inode(directory, entry->d_name)) inodes.push_back(*inode);
  }
  return inodes;
}

shm::Result<std::vector<HeldStream>> streams_of(pid_t process) {
  const std::string what = "the sockets of process " + std::to_string(process);
  const shm::UniqueFd handle = open_process(process);
  if (!handle.valid()) return shm::fail(what, errno);
  const Directory directory = descriptors_of(process);
  if (!directory) return shm::fail(what, errno == ENOENT ? ESRCH : errno);
  std::vector<HeldStream> streams;
  while (const dirent* entry = readdir(directory.get())) {
    const auto number = shm::number_from_text<int>(entry->d_name);
    if (!number || !socket_inode(directory, entry->d_name)) continue;
    const shm::UniqueFd copy = copy_of(handle, *number);
    if (!copy.valid() && errno == EBADF) continue;  // closed in the meantime
    if (!copy.valid()) return shm::fail(what, errno);
    if (const auto stream = tcp_stream(copy.get())) streams.push_back({*stream, *number});
  }
  return streams;
}

bool has_stream(pid_t process, const HeldStream& held) {
  const shm::UniqueFd handle = open_process(process);
  if (!handle.valid()) return false;
  const shm::UniqueFd copy = copy_of(handle, held.number);
  return copy.valid() && tcp_stream(copy.get()) == held.stream;
}

}  // namespace smbdirect::daemon
