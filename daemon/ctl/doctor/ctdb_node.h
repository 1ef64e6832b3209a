// SPDX-License-Identifier: MIT
// What the files of CTDB's on a host say: the addresses that move between nodes, whether our event script
// runs, and the priority of routing rules. Values, read once; smbdirectctl only.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "daemon/ctl/doctor/host.h"

namespace smbdirect::daemon::doctor {

inline constexpr const char* kCtdbScripts = "/etc/ctdb/events/legacy";

struct CtdbNode {
  std::vector<shm::Host> public_addresses;  // that move: this node may have some of them now
  /// As they are enabled: the names without ".script".
  std::vector<std::string> scripts;
  std::optional<uint32_t> rule_priority;  // of 13.per_ip_routing, where it is in use

  [[nodiscard]] static CtdbNode read(Host& host);
  [[nodiscard]] bool moves(const shm::Host& address) const;
};

}  // namespace smbdirect::daemon::doctor
