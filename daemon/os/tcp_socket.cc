// SPDX-License-Identifier: MIT
#include "daemon/os/tcp_socket.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "shm/base/number.h"

namespace smbdirect::daemon {
namespace {

/// "0100007F:01BD": each 32 bits of the address as this machine reads them from memory.
std::optional<std::pair<shm::Host, uint16_t>> endpoint(std::string_view text) {
  const size_t colon = text.find(':');
  if (colon != 8 && colon != 32) return std::nullopt;
  shm::Host host{};
  if (colon == 8) host[10] = host[11] = 0xff;
  for (size_t at = 0; at < colon; at += 8) {
    const auto word = shm::number_from_text<uint32_t>(text.substr(at, 8), 16);
    if (!word) return std::nullopt;
    std::memcpy(host.data() + (colon == 8 ? 12 : at / 2), &*word, sizeof *word);
  }
  const auto port = shm::number_from_text<uint16_t>(text.substr(colon + 1), 16);
  if (!port) return std::nullopt;
  return std::pair(host, *port);
}

}  // namespace

std::optional<TcpSocket> parse_tcp_socket(std::string_view line) {
  // sl local_address rem_address st tx_queue:rx_queue tr:tm->when retrnsmt uid timeout inode ...
  std::array<std::string_view, 10> words;
  for (std::string_view& word : words) {
    constexpr std::string_view kBlank = " \t\n";
    line.remove_prefix(std::min(line.find_first_not_of(kBlank), line.size()));
    word = line.substr(0, line.find_first_of(kBlank));
    line.remove_prefix(word.size());
  }
  const auto local = endpoint(words[1]), remote = endpoint(words[2]);
  const auto state = shm::number_from_text<uint8_t>(words[3], 16);
  const auto inode = shm::number_from_text<uint64_t>(words[9]);
  if (!local || !remote || !state || !inode) return std::nullopt;
  return TcpSocket{.local = local->first,
                   .local_port = local->second,
                   .remote = remote->first,
                   .remote_port = remote->second,
                   .state = TcpSocket::State{*state},
                   .inode = *inode};
}

}  // namespace smbdirect::daemon
