// SPDX-License-Identifier: MIT
// Users and groups of this system, by name. Asks NSS, which may block: when a configuration is read, not
// while clients wait.
#pragma once

#include <optional>
#include <string>
#include <sys/types.h>

namespace smbdirect::daemon {

/// Nothing: there is no such group, or the name is empty.
[[nodiscard]] std::optional<gid_t> group_id(const std::string& name);

}  // namespace smbdirect::daemon
