// SPDX-License-Identifier: MIT
// The RDMA devices of a host and their ports, as /sys/class/infiniband tells them. smbdirectctl only.
#pragma once

#include <string>
#include <vector>

#include "daemon/ctl/doctor/host.h"

namespace smbdirect::daemon::doctor {

struct RdmaPort {
  std::string device;
  std::string port;       // "1"
  std::string state;      // "ACTIVE"
  bool iwarp = false;     // by its own protocol; else RoCE or InfiniBand
  bool ethernet = true;   // its link layer
  bool software = false;  // no hardware below it: siw or rxe
  std::vector<shm::Host> gids{};
  std::vector<std::string> interfaces{};

  [[nodiscard]] bool active() const { return state == "ACTIVE"; }
  [[nodiscard]] bool siw() const { return iwarp && software; }
  [[nodiscard]] bool has_gid_of(const shm::Host& host) const;
  /// Does it carry what is sent from this address?
  [[nodiscard]] bool serves(const Host::Address& address) const;
};
[[nodiscard]] std::vector<RdmaPort> rdma_ports(Host& host);

}  // namespace smbdirect::daemon::doctor
