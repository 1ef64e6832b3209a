// SPDX-License-Identifier: MIT
#include "daemon/os/account.h"

#include <grp.h>

namespace smbdirect::daemon {

std::optional<gid_t> group_id(const std::string& name) {
  if (name.empty()) return std::nullopt;
  const group* found = getgrnam(name.c_str());
  return found == nullptr ? std::nullopt : std::optional(found->gr_gid);
}

}  // namespace smbdirect::daemon
