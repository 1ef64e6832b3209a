// SPDX-License-Identifier: MIT
// Text and identity of IP socket addresses. Pure; any process. An IPv4 address that arrives in its
// IPv6-mapped form (::ffff:a.b.c.d) is the IPv4 address everywhere here.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <sys/socket.h>

namespace smbdirect::shm {

/// Who a peer is, without the port: 16 bytes, IPv4 in its mapped form. Comparable, a key for maps.
using Host = std::array<uint8_t, 16>;

/// Numeric addresses only ("192.0.2.1", "2001:db8::1"); nothing is looked up.
[[nodiscard]] std::optional<sockaddr_storage> address_from_text(std::string_view host, uint16_t port);

[[nodiscard]] Host host_of(const sockaddr_storage& address);
[[nodiscard]] bool is_ipv4(const Host& host);
[[nodiscard]] bool is_loopback(const Host& host);  // 127.0.0.0/8, ::1
/// The IPv6 network of that prefix length that the host is in; an IPv4 host is its own. A host that has one
/// address of an IPv6 network can usually use all of them.
[[nodiscard]] Host network_of(const Host& host, unsigned ipv6_prefix_length);
[[nodiscard]] std::string host_text(const Host& host);

[[nodiscard]] uint16_t port_of(const sockaddr_storage& address);
void set_port(sockaddr_storage& address, uint16_t port);
[[nodiscard]] socklen_t length_of(const sockaddr_storage& address);
/// "192.0.2.1:445", "[2001:db8::1]:445"; "?": no IP address.
[[nodiscard]] std::string address_text(const sockaddr_storage& address);

}  // namespace smbdirect::shm
