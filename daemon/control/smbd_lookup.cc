// SPDX-License-Identifier: MIT
#include "daemon/control/smbd_lookup.h"

#include <filesystem>
#include <fstream>
#include <string_view>
#include <system_error>
#include <unordered_map>

#include "daemon/os/tcp_socket.h"
#include "shm/base/number.h"

namespace smbdirect::daemon {
namespace {

/// inode -> pid, of every socket that a process called smbd has open.
std::unordered_map<uint64_t, uint32_t> sockets_of_smbd() {
  namespace fs = std::filesystem;
  std::unordered_map<uint64_t, uint32_t> found;
  std::error_code error;
  for (const auto& process : fs::directory_iterator("/proc", error)) {
    const std::string name = process.path().filename();
    const auto pid = shm::number_from_text<uint32_t>(name);
    if (!pid) continue;
    std::string comm;
    std::getline(std::ifstream(process.path() / "comm"), comm);
    if (!comm.starts_with("smbd")) continue;
    for (const auto& descriptor : fs::directory_iterator(process.path() / "fd", error)) {
      const std::string target = fs::read_symlink(descriptor.path(), error).string();
      constexpr std::string_view kSocket = "socket:[";
      if (error || !target.starts_with(kSocket)) continue;
      const auto digits = std::string_view(target).substr(kSocket.size());
      if (const auto inode = shm::number_from_text<uint64_t>(digits.substr(0, digits.find(']'))))
        found[*inode] = *pid;
    }
  }
  return found;
}

}  // namespace

SmbdLookup SmbdLookup::look() {
  SmbdLookup owners;
  const auto sockets = sockets_of_smbd();
  for (const char* table : {"/proc/net/tcp", "/proc/net/tcp6"}) {
    std::ifstream in(table);
    for (std::string line; std::getline(in, line);) {
      const auto stream = parse_tcp_socket(line);
      if (!stream || stream->state != TcpSocket::State::established) continue;
      const auto owner = sockets.find(stream->inode);
      if (owner == sockets.end()) continue;
      owners.streams_.emplace(std::pair(stream->local_port, stream->remote_port),
                              Owned{stream->remote, owner->second});
    }
  }
  return owners;
}

std::optional<uint32_t> SmbdLookup::owner(uint16_t smbd_port, uint16_t other_port,
                                          const std::optional<shm::Host>& other) const {
  std::optional<uint32_t> found;
  const auto [first, last] = streams_.equal_range({smbd_port, other_port});
  for (auto at = first; at != last; ++at) {
    if (other && at->second.other != *other) continue;
    if (found && *found != at->second.pid) return std::nullopt;
    found = at->second.pid;
  }
  return found;
}

}  // namespace smbdirect::daemon
