// SPDX-License-Identifier: MIT
#include "daemon/ctl/doctor/tcp_table.h"

#include <algorithm>

#include "daemon/ctl/doctor/smb_conf.h"
#include "daemon/os/tcp_socket.h"
#include "shm/base/number.h"

namespace smbdirect::daemon::doctor {
std::vector<TcpListener> tcp_listeners(Host& host) {
  std::vector<TcpListener> found;
  for (const char* path : {"/proc/net/tcp", "/proc/net/tcp6"}) {
    const auto table = host.read(path);
    if (!table) continue;
    for (const std::string& line : words_of(*table, "\n")) {
      const auto one = parse_tcp_socket(line);
      if (one && one->state == TcpSocket::State::listen)
        found.push_back({.host = one->local, .port = one->local_port, .inode = one->inode});
    }
  }
  return found;
}

bool is_wildcard(const shm::Host& host) {
  const auto significant = shm::is_ipv4(host) ? host.begin() + 12 : host.begin();
  return std::all_of(significant, host.end(), [](uint8_t byte) { return byte == 0; });
}

bool collides(const TcpListener& listener, const shm::Host& host, uint16_t port) {
  if (listener.port != port) return false;
  if (listener.host == host) return true;
  if (shm::is_ipv4(listener.host) != shm::is_ipv4(host)) return false;
  return is_wildcard(listener.host) || is_wildcard(host);
}

std::vector<SocketOwner> owners_of(Host& host, uint64_t inode) {
  const std::string wanted = "socket:[" + std::to_string(inode) + "]";
  std::vector<SocketOwner> owners;
  for (const std::string& name : host.list("/proc")) {
    const auto pid = shm::number_from_text<pid_t>(name);
    if (!pid) continue;
    const std::string process = "/proc/" + name;
    const auto descriptors = host.list(process + "/fd");
    const bool has = std::ranges::any_of(descriptors, [&](const std::string& descriptor) {
      return host.link(process + "/fd/" + descriptor) == wanted;
    });
    if (!has) continue;
    const auto command = host.read(process + "/comm");
    owners.push_back({.pid = *pid, .name = command ? std::string(trimmed(*command)) : "?"});
  }
  return owners;
}

}  // namespace smbdirect::daemon::doctor
