// SPDX-License-Identifier: MIT
// smbdirectctl's command line. Start-up of that program only.
#pragma once

#include <expected>
#include <optional>
#include <string>

#include "daemon/ctl/commands.h"

namespace smbdirect::daemon {

/// Of the command doctor.
struct DoctorOptions {
  std::string config_file;      // as smbdirectd's --configfile
  std::string connect_program;  // smbdirect-connect
  std::string socket;           // empty: as the pool file has it
  bool smb_conf = false;        // print the lines for smb.conf instead
  bool all = false;
};

struct CtlOptions {
  std::string socket = "/run/smbdirectd/control";
  CtlRequest request;
  std::optional<OwnCommand> own;  // instead of the request
  DoctorOptions doctor;
  bool json = false;
  bool help = false;
  bool version = false;
};
/// The error is a line for standard error.
[[nodiscard]] std::expected<CtlOptions, std::string> parse_ctl_options(int argc, char* const* argv);
[[nodiscard]] std::string ctl_help_text();

}  // namespace smbdirect::daemon
