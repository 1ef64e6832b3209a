// SPDX-License-Identifier: MIT
// A daemon's answer as text for a person. Pure; smbdirectctl only.
#pragma once

#include <expected>
#include <string>
#include <string_view>

#include "daemon/ctl/commands.h"

namespace smbdirect::daemon {

/// The table, or the answer itself, indented, when json is set. The error is the daemon's own, or that the
/// answer makes no sense.
[[nodiscard]] std::expected<std::string, std::string> render(const CtlRequest& request,
                                                             std::string_view answer, bool json);

}  // namespace smbdirect::daemon
