// SPDX-License-Identifier: MIT
// smbdirectctl top: asks the daemon each second and shows what happened in that second, on a terminal until
// somebody presses q, otherwise once, as text or JSON.
#pragma once

#include <string>

#include "shm/base/result.h"

namespace smbdirect::daemon::top {

/// Two readings a second apart, as text or as JSON. Blocks for as long.
[[nodiscard]] shm::Result<std::string> once(const std::string& socket, bool json);
/// Draws on the terminal until q is pressed. The error: no terminal, or no daemon at the start. One that goes
/// away later is waited for.
[[nodiscard]] shm::Result<> watch(const std::string& socket);

}  // namespace smbdirect::daemon::top
