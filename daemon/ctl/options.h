// SPDX-License-Identifier: MIT
// smbdirectctl's command line: one table of options behind parsing, --help, shell completion and the manual
// page's test. Start-up of that program only.
#pragma once

#include <expected>
#include <optional>
#include <span>
#include <string>
#include <string_view>

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
  bool events = false;
  bool once = false;  // top: no screen
  bool help = false;
  bool version = false;
};

struct CtlOptionRow {
  char letter;  // '\0': none
  std::string_view name;
  std::string_view argument;   // empty: takes none
  std::string_view only_with;  // the one command that has it; empty: all
  std::string_view help;
  void (*take)(CtlOptions& options, const char* argument);  // null where none is taken
};
[[nodiscard]] std::span<const CtlOptionRow> ctl_option_table();

/// The error is a line for standard error.
[[nodiscard]] std::expected<CtlOptions, std::string> parse_ctl_options(int argc, char* const* argv);
[[nodiscard]] std::string ctl_help_text();

}  // namespace smbdirect::daemon
