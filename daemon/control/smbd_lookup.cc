// SPDX-License-Identifier: MIT
#include "daemon/control/smbd_lookup.h"

#include <charconv>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>
#include <unordered_map>
#include <vector>

namespace smbdirect::daemon {
namespace {

constexpr std::string_view kEstablished = "01";

std::optional<uint32_t> hex(std::string_view text) {
  uint32_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, 16);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

/// "0100007F:01BD": each 32 bits of the address as this machine reads them from memory.
std::optional<std::pair<shm::Host, uint16_t>> endpoint(std::string_view text) {
  const size_t colon = text.find(':');
  if (colon != 8 && colon != 32) return std::nullopt;
  shm::Host host{};
  if (colon == 8) host[10] = host[11] = 0xff;
  for (size_t at = 0; at < colon; at += 8) {
    const auto word = hex(text.substr(at, 8));
    if (!word) return std::nullopt;
    std::memcpy(host.data() + (colon == 8 ? 12 : at / 2), &*word, sizeof *word);
  }
  const auto port = hex(text.substr(colon + 1));
  if (!port || *port > UINT16_MAX) return std::nullopt;
  return std::pair(host, uint16_t(*port));
}

std::vector<std::string> words_of(std::string_view line) {
  std::istringstream in{std::string(line)};
  return {std::istream_iterator<std::string>(in), {}};
}

/// inode -> pid, of every socket that a process called smbd has open.
std::unordered_map<uint64_t, uint32_t> sockets_of_smbd() {
  namespace fs = std::filesystem;
  std::unordered_map<uint64_t, uint32_t> found;
  std::error_code error;
  for (const auto& process : fs::directory_iterator("/proc", error)) {
    const std::string name = process.path().filename();
    uint32_t pid = 0;
    if (std::from_chars(name.data(), name.data() + name.size(), pid).ptr != name.data() + name.size())
      continue;
    std::string comm;
    std::getline(std::ifstream(process.path() / "comm"), comm);
    if (!comm.starts_with("smbd")) continue;
    for (const auto& descriptor : fs::directory_iterator(process.path() / "fd", error)) {
      const std::string target = fs::read_symlink(descriptor.path(), error).string();
      constexpr std::string_view kSocket = "socket:[";
      if (error || !target.starts_with(kSocket)) continue;
      uint64_t inode = 0;
      std::from_chars(target.data() + kSocket.size(), target.data() + target.size(), inode);
      found[inode] = pid;
    }
  }
  return found;
}

}  // namespace

std::optional<SmbdLookup::Stream> SmbdLookup::parse_line(std::string_view line) {
  // sl local_address rem_address st tx_queue:rx_queue tr:tm->when retrnsmt uid timeout inode ...
  const std::vector<std::string> words = words_of(line);
  if (words.size() < 10 || words[3] != kEstablished) return std::nullopt;
  const auto local = endpoint(words[1]);
  const auto remote = endpoint(words[2]);
  Stream stream;
  const std::string& inode = words[9];
  const auto [end, error] = std::from_chars(inode.data(), inode.data() + inode.size(), stream.inode);
  if (!local || !remote || error != std::errc{} || end != inode.data() + inode.size()) return std::nullopt;
  stream.smbd_port = local->second;
  stream.other = remote->first;
  stream.other_port = remote->second;
  return stream;
}

SmbdLookup SmbdLookup::look() {
  SmbdLookup owners;
  const auto sockets = sockets_of_smbd();
  for (const char* table : {"/proc/net/tcp", "/proc/net/tcp6"}) {
    std::ifstream in(table);
    for (std::string line; std::getline(in, line);) {
      const auto stream = parse_line(line);
      if (!stream) continue;
      const auto owner = sockets.find(stream->inode);
      if (owner == sockets.end()) continue;
      owners.streams_.emplace(std::pair(stream->smbd_port, stream->other_port),
                              Owned{stream->other, owner->second});
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
