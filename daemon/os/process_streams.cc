// SPDX-License-Identifier: MIT
#include "daemon/os/process_streams.h"

#include <array>
#include <cerrno>
#include <dirent.h>
#include <linux/limits.h>
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

bool is_socket(int directory, const char* name) {
  constexpr std::string_view kSocket = "socket:[";
  std::array<char, PATH_MAX> target;
  const ssize_t length = readlinkat(directory, name, target.data(), target.size());
  return length > 0 && std::string_view(target.data(), size_t(length)).starts_with(kSocket);
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

shm::Result<std::vector<HeldStream>> streams_of(pid_t process) {
  const std::string what = "the sockets of process " + std::to_string(process);
  const shm::UniqueFd handle = open_process(process);
  if (!handle.valid()) return shm::fail(what, errno);
  const std::string path = "/proc/" + std::to_string(process) + "/fd";
  const std::unique_ptr<DIR, CloseDirectory> directory(opendir(path.c_str()));
  if (!directory) return shm::fail(what, errno == ENOENT ? ESRCH : errno);
  std::vector<HeldStream> streams;
  while (const dirent* entry = readdir(directory.get())) {
    const auto number = shm::number_from_text<int>(entry->d_name);
    if (!number || !is_socket(dirfd(directory.get()), entry->d_name)) continue;
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
