// SPDX-License-Identifier: MIT
#include "daemon/os/unix_socket.h"

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

namespace smbdirect::daemon {

shm::Result<sockaddr_un> unix_address(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) return shm::fail("socket '" + path + "'", ENAMETOOLONG);
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  return address;
}

shm::UniqueFd unix_socket() {
  return shm::UniqueFd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
}

shm::UniqueFd packet_socket() {
  return shm::UniqueFd(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
}

shm::Result<shm::UniqueFd> connect_packets(const std::string& path) {
  const auto address = unix_address(path);
  if (!address) return std::unexpected(address.error());
  shm::UniqueFd fd = packet_socket();
  if (!fd.valid() || connect(fd.get(), reinterpret_cast<const sockaddr*>(&*address), sizeof *address) != 0)
    return shm::fail("socket '" + path + "'", errno);
  return fd;
}

bool bind_private(int fd, const sockaddr_un& address) {
  const mode_t before = umask(0177);
  const int bound = bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address);
  const int error = errno;
  umask(before);
  errno = error;
  return bound == 0;
}

shm::Result<> make_directory_of(const std::string& path) {
  const std::filesystem::path directory = std::filesystem::path(path).parent_path();
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  if (error) return shm::fail("directory '" + directory.string() + "'", error.value());
  return {};
}

std::optional<PeerIdentity> peer_identity(int fd) {
  ucred peer{};
  socklen_t length = sizeof peer;
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0) return std::nullopt;
  PeerIdentity identity{.user = peer.uid, .groups = {}};
  // The first call says how much there is; no groups at all is no error.
  length = 0;
  if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, nullptr, &length) != 0 && errno == ERANGE) {
    identity.groups.resize(length / sizeof(gid_t));
    if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, identity.groups.data(), &length) != 0)
      identity.groups.clear();
  }
  identity.groups.push_back(peer.gid);
  return identity;
}

shm::Result<> open_to_group(const std::string& path, std::optional<gid_t> group) {
  // Closed first, so that it is never open to another group than this.
  if (chmod(path.c_str(), 0600) != 0 || lchown(path.c_str(), uid_t(-1), group.value_or(getegid())) != 0 ||
      (group && chmod(path.c_str(), 0660) != 0)) {
    return shm::fail("socket '" + path + "'", errno);
  }
  return {};
}

shm::Result<shm::UniqueFd> listen_in_place(const std::string& path, int backlog) {
  const auto address = unix_address(path);
  if (!address) return std::unexpected(address.error());
  if (auto made = make_directory_of(path); !made) return std::unexpected(made.error());
  shm::UniqueFd fd = unix_socket();
  struct stat status{};
  if (lstat(path.c_str(), &status) == 0 && S_ISSOCK(status.st_mode)) unlink(path.c_str());
  if (!fd.valid() || !bind_private(fd.get(), *address) || listen(fd.get(), backlog) != 0) {
    return shm::fail("socket '" + path + "'", errno);
  }
  return fd;
}

}  // namespace smbdirect::daemon
