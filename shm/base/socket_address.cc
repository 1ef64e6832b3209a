// SPDX-License-Identifier: MIT
#include "shm/base/socket_address.h"

#include <algorithm>
#include <arpa/inet.h>
#include <cstring>
#include <netinet/in.h>

namespace smbdirect::shm {
namespace {

constexpr std::array<uint8_t, 12> kMappedPrefix{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

template <class Address>
Address as(const sockaddr_storage& storage) {
  Address address{};
  std::memcpy(&address, &storage, sizeof address);
  return address;
}

}  // namespace

std::optional<sockaddr_storage> address_from_text(std::string_view host, uint16_t port) {
  const std::string text(host);  // inet_pton wants a terminator
  if (text.size() != std::strlen(text.c_str())) return std::nullopt;
  sockaddr_storage storage{};
  if (sockaddr_in in{}; inet_pton(AF_INET, text.c_str(), &in.sin_addr) == 1) {
    in.sin_family = AF_INET;
    in.sin_port = htons(port);
    std::memcpy(&storage, &in, sizeof in);
    return storage;
  }
  if (sockaddr_in6 in{}; inet_pton(AF_INET6, text.c_str(), &in.sin6_addr) == 1) {
    in.sin6_family = AF_INET6;
    in.sin6_port = htons(port);
    std::memcpy(&storage, &in, sizeof in);
    return storage;
  }
  return std::nullopt;
}

Host host_of(const sockaddr_storage& address) {
  Host host{};
  if (address.ss_family == AF_INET) {
    const auto in = as<sockaddr_in>(address);
    std::ranges::copy(kMappedPrefix, host.begin());
    std::memcpy(&host[12], &in.sin_addr, 4);
  } else if (address.ss_family == AF_INET6) {
    const auto in = as<sockaddr_in6>(address);
    std::memcpy(host.data(), &in.sin6_addr, host.size());
  }
  return host;
}

bool is_ipv4(const Host& host) {
  return std::equal(kMappedPrefix.begin(), kMappedPrefix.end(), host.begin());
}

bool is_loopback(const Host& host) {
  if (is_ipv4(host)) return host[12] == 127;
  return host == Host{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
}

Host network_of(const Host& host, unsigned ipv6_prefix_length) {
  if (is_ipv4(host)) return host;
  Host network = host;
  for (size_t i = 0; i < network.size(); ++i) {
    const size_t bits = std::min<size_t>(8, ipv6_prefix_length - std::min<size_t>(ipv6_prefix_length, 8 * i));
    network[i] &= uint8_t(0xff00 >> bits);
  }
  return network;
}

std::string host_text(const Host& host) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  if (is_ipv4(host)) {
    inet_ntop(AF_INET, &host[12], text.data(), text.size());
  } else {
    inet_ntop(AF_INET6, host.data(), text.data(), text.size());
  }
  return text.data();
}

uint16_t port_of(const sockaddr_storage& address) {
  if (address.ss_family == AF_INET) return ntohs(as<sockaddr_in>(address).sin_port);
  if (address.ss_family == AF_INET6) return ntohs(as<sockaddr_in6>(address).sin6_port);
  return 0;
}

void set_port(sockaddr_storage& address, uint16_t port) {
  const uint16_t wire = htons(port);
  if (address.ss_family == AF_INET) {
    std::memcpy(reinterpret_cast<char*>(&address) + offsetof(sockaddr_in, sin_port), &wire, sizeof wire);
  } else if (address.ss_family == AF_INET6) {
    std::memcpy(reinterpret_cast<char*>(&address) + offsetof(sockaddr_in6, sin6_port), &wire, sizeof wire);
  }
}

socklen_t length_of(const sockaddr_storage& address) {
  return address.ss_family == AF_INET6 ? sizeof(sockaddr_in6) : sizeof(sockaddr_in);
}

std::string address_text(const sockaddr_storage& address) {
  if (address.ss_family != AF_INET && address.ss_family != AF_INET6) return "?";
  const Host host = host_of(address);
  const std::string port = std::to_string(port_of(address));
  return is_ipv4(host) ? host_text(host) + ":" + port : "[" + host_text(host) + "]:" + port;
}

}  // namespace smbdirect::shm
