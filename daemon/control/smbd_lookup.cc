// SPDX-License-Identifier: MIT
#include "daemon/control/smbd_lookup.h"

#include <chrono>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <system_error>
#include <unistd.h>
#include <unordered_map>

#include "daemon/os/process_streams.h"
#include "daemon/os/tcp_socket.h"
#include "shm/base/number.h"

namespace smbdirect::daemon {
namespace {

/// Of root's or our own, whatever it does at the moment: anyone can call a process smbd.
bool is_smbd(const std::filesystem::path& process) {
  std::string line;
  std::getline(std::ifstream(process / "comm"), line);
  if (!line.starts_with("smbd")) return false;
  constexpr std::string_view kUser = "Uid:\t";  // the real one follows
  std::ifstream status(process / "status");
  while (std::getline(status, line) && !line.starts_with(kUser)) continue;
  if (!line.starts_with(kUser)) return false;
  const std::string_view users = std::string_view(line).substr(kUser.size());
  const auto user = shm::number_from_text<uid_t>(users.substr(0, users.find('\t')));
  return user && (*user == 0 || *user == getuid());
}

/// inode -> pid, of every socket that an smbd has open.
std::unordered_map<uint64_t, uint32_t> sockets_of_smbd() {
  std::unordered_map<uint64_t, uint32_t> found;
  std::error_code error;
  for (const auto& process : std::filesystem::directory_iterator("/proc", error)) {
    const auto pid = shm::number_from_text<uint32_t>(process.path().filename().string());
    if (!pid || !is_smbd(process.path())) continue;
    for (const uint64_t inode : sockets_of(pid_t(*pid))) found[inode] = *pid;
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

const SmbdLookup& RecentLookup::get() {
  using Clock = std::chrono::steady_clock;
  const auto began = Clock::now();
  if (began < again_) return lookup_;
  lookup_ = SmbdLookup::look();
  const auto ended = Clock::now();
  if (ended - began > kCheap) again_ = ended + (ended - began) * kTimesItsCost;
  return lookup_;
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
