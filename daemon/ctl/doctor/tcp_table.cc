// SPDX-License-Identifier: MIT
#include "daemon/ctl/doctor/tcp_table.h"

#include <algorithm>
#include <cctype>
#include <charconv>

#include "daemon/ctl/doctor/smb_conf.h"

namespace smbdirect::daemon::doctor {
namespace {

template <class Number>
std::optional<Number> number(std::string_view text, int base) {
  Number value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

/// Words of four bytes, each as this machine's number.
std::optional<shm::Host> parse_host(std::string_view hex) {
  if (hex.size() != 8 && hex.size() != 32) return std::nullopt;
  shm::Host host{};
  if (hex.size() == 8) host[10] = host[11] = 0xff;
  const size_t first = host.size() - hex.size() / 2;
  for (size_t word = 0; word < hex.size() / 8; ++word) {
    const auto value = number<uint32_t>(hex.substr(8 * word, 8), 16);
    if (!value) return std::nullopt;
    const auto* bytes = reinterpret_cast<const uint8_t*>(&*value);
    std::copy_n(bytes, sizeof *value, &host[first + 4 * word]);
  }
  return host;
}

}  // namespace

std::optional<TcpListener> parse_tcp_listener(std::string_view line) {
  const auto fields = words_of(line);
  if (fields.size() < 10 || fields[3] != "0A") return std::nullopt;
  const std::string_view local = fields[1];
  const size_t colon = local.find(':');
  if (colon == local.npos) return std::nullopt;
  const auto host = parse_host(local.substr(0, colon));
  const auto port = number<uint16_t>(local.substr(colon + 1), 16);
  const auto inode = number<uint64_t>(fields[9], 10);
  if (!host || !port || !inode) return std::nullopt;
  return TcpListener{.host = *host, .port = *port, .inode = *inode};
}

std::vector<TcpListener> tcp_listeners(Host& host) {
  std::vector<TcpListener> found;
  for (const char* path : {"/proc/net/tcp", "/proc/net/tcp6"}) {
    const auto table = host.read(path);
    if (!table) continue;
    for (const std::string& line : words_of(*table, "\n")) {
      if (const auto one = parse_tcp_listener(line)) found.push_back(*one);
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
    const auto pid = number<pid_t>(name, 10);
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
