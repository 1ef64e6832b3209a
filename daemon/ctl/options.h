// SPDX-License-Identifier: MIT
// smbdirectctl's command line. Start-up of that program only.
#pragma once

#include <expected>
#include <string>

#include "daemon/ctl/commands.h"

namespace smbdirect::daemon {

struct CtlOptions {
  std::string socket = "/run/smbdirectd/control";
  CtlRequest request;
  bool json = false;
  bool help = false;
  bool version = false;
};
/// The error is a line for standard error.
[[nodiscard]] std::expected<CtlOptions, std::string> parse_ctl_options(int argc, char* const* argv);
[[nodiscard]] std::string ctl_help_text();

}  // namespace smbdirect::daemon
