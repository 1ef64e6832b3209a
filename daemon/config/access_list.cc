// SPDX-License-Identifier: MIT
#include "daemon/config/access_list.h"

#include <algorithm>
#include <optional>

#include "shm/base/number.h"

namespace smbdirect::daemon {
namespace {

constexpr uint8_t kMappedBits = 96;  // ::ffff:0:0/96 holds IPv4

/// The first `bits` bits of host, the rest zero.
shm::Host masked(shm::Host host, unsigned bits) {
  for (unsigned i = 0; i < host.size(); ++i) {
    const unsigned kept = std::clamp(int(bits) - int(8 * i), 0, 8);
    host[i] = uint8_t(host[i] & (0xff00u >> kept));
  }
  return host;
}

std::optional<unsigned> prefix_length(std::string_view digits, unsigned most) {
  const auto bits = shm::number_from_text<unsigned>(digits);
  return bits && *bits <= most ? bits : std::nullopt;
}

bool any_contains(const std::vector<Cidr>& networks, const shm::Host& host) {
  return std::ranges::any_of(networks, [&](const Cidr& network) { return network.contains(host); });
}

}  // namespace

std::expected<Cidr, std::string> Cidr::parse(std::string_view text) {
  const size_t slash = text.find('/');
  const auto address = shm::address_from_text(text.substr(0, slash), 0);
  if (!address) return std::unexpected("is not a network");
  const bool dotted = address->ss_family == AF_INET;
  const unsigned most = dotted ? 32 : 128;
  unsigned bits = most;
  if (slash != std::string_view::npos) {
    const auto length = prefix_length(text.substr(slash + 1), most);
    if (!length) return std::unexpected("has a prefix length that is not 0 to " + std::to_string(most));
    bits = *length;
  }
  Cidr cidr;
  cidr.network_ = shm::host_of(*address);
  cidr.bits_ = uint8_t(dotted ? bits + kMappedBits : bits);
  // "::ffff:10.0.0.0/104" is 10.0.0.0/8 in its long form; a shorter prefix reaches beyond the mapped range.
  cidr.ipv4_ = dotted || (shm::is_ipv4(cidr.network_) && cidr.bits_ >= kMappedBits);
  if (const shm::Host network = masked(cidr.network_, cidr.bits_); network != cidr.network_) {
    cidr.network_ = network;
    return std::unexpected("has bits set beyond its prefix; did you mean \"" + cidr.text() + "\"?");
  }
  return cidr;
}

bool Cidr::contains(const shm::Host& host) const {
  return shm::is_ipv4(host) == ipv4_ && masked(host, bits_) == network_;
}

std::string Cidr::text() const {
  return shm::host_text(network_) + "/" + std::to_string(ipv4_ ? bits_ - kMappedBits : bits_);
}

Access AccessList::check(const shm::Host& host) const {
  if (any_contains(deny, host)) return Access::denied;
  if (allow.empty()) return everyone || shm::is_loopback(host) ? Access::allowed : Access::not_loopback;
  return any_contains(allow, host) ? Access::allowed : Access::not_in_allow;
}

std::string_view access_text(Access access) {
  switch (access) {
    case Access::allowed:
      return "allowed";
    case Access::denied:
      return "its address is in /upstream/deny";
    case Access::not_in_allow:
      return "its address is not in /upstream/allow";
    case Access::not_loopback:
      return "it is not a loopback address and /upstream/allow is empty";
  }
  return "";
}

}  // namespace smbdirect::daemon
