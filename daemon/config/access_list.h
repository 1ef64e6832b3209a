// SPDX-License-Identifier: MIT
// Who may connect: lists of networks in CIDR notation, checked by the supervisor when it accepts. Pure.
//
// An address is let in when it matches `allow` and does not match `deny`: deny always wins, even if the
// network in `allow` is smaller (unlike smb.conf's "hosts deny", where the allow list takes precedence). An
// empty `allow` stands for every client, or, in mode "connect", where smbd does not see the client's address,
// for loopback. IPv4 networks match IPv4 peers, also in their IPv6-mapped form; IPv6 networks match IPv6
// peers only, so "::/0" lets no IPv4 peer in.
#pragma once

#include <cstdint>
#include <expected>
#include <string>
#include <string_view>
#include <vector>

#include "shm/base/socket_address.h"

namespace smbdirect::daemon {

class Cidr {
 public:
  /// "10.0.0.0/8", "2001:db8::/32", or a single address. The error is a phrase that completes
  /// "VALUE ..." for a person: "is not a network", "has bits set beyond /8 (10.0.0.0/8 is meant?)".
  [[nodiscard]] static std::expected<Cidr, std::string> parse(std::string_view text);

  [[nodiscard]] bool contains(const shm::Host& host) const;
  /// In the notation that parse() takes.
  [[nodiscard]] std::string text() const;

 private:
  shm::Host network_{};
  uint8_t bits_ = 0;  // of the 128; an IPv4 network has 96 more than written
  bool ipv4_ = false;
};

enum class Access : uint8_t { allowed, denied, not_in_allow, not_loopback };

struct AccessList {
  std::vector<Cidr> allow;
  std::vector<Cidr> deny;
  bool everyone = false;  // what an empty `allow` stands for: everyone, else loopback

  [[nodiscard]] Access check(const shm::Host& host) const;
};

/// Why a peer is turned away, for the log.
[[nodiscard]] std::string_view access_text(Access access);

}  // namespace smbdirect::daemon
