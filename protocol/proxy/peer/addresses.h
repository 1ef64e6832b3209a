// SPDX-License-Identifier: MIT
// An address of a frame as a sockaddr for C programs. Pure; used in the process that links the library.
#pragma once

#include <algorithm>
#include <arpa/inet.h>
#include <cstring>
#include <netinet/in.h>
#include <span>
#include <sys/socket.h>

#include "protocol/proxy/frames.h"

namespace smbdirect::protocol::proxy::peer {

/// `address` came out of a parser, so its family is 4 or 6.
[[nodiscard]] inline sockaddr_storage to_sockaddr(const Address& address) {
  sockaddr_storage storage{};
  if (address.family == 6) {
    sockaddr_in6 ipv6{};
    ipv6.sin6_family = AF_INET6;
    ipv6.sin6_port = htons(address.port);
    std::memcpy(&ipv6.sin6_addr, address.bytes.data(), sizeof ipv6.sin6_addr);
    std::memcpy(&storage, &ipv6, sizeof ipv6);
  } else {
    sockaddr_in ipv4{};
    ipv4.sin_family = AF_INET;
    ipv4.sin_port = htons(address.port);
    std::memcpy(&ipv4.sin_addr, address.bytes.data(), sizeof ipv4.sin_addr);
    std::memcpy(&storage, &ipv4, sizeof ipv4);
  }
  return storage;
}

inline void copy_bytes(std::span<const std::byte> from, uint8_t* to) {
  std::ranges::copy(from, reinterpret_cast<std::byte*>(to));
}

}  // namespace smbdirect::protocol::proxy::peer
