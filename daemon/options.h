// SPDX-License-Identifier: MIT
// smbdirectd's command line: one table of options behind parsing, --help and the manual page's test.
// Start-up only.
#pragma once

#include <expected>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace smbdirect::daemon {

struct CommandLine {
  std::string config_file;
  std::string worker_program;
  bool check_config = false;
  bool dump_config = false;
  bool version = false;
  bool help = false;
  std::optional<int> ready_fd;
};

struct OptionRow {
  char letter;  // '\0': none
  std::string_view name;
  std::string_view argument;  // empty: takes none
  std::string_view help;
};
[[nodiscard]] std::span<const OptionRow> option_table();

/// The error is a line for standard error.
[[nodiscard]] std::expected<CommandLine, std::string> parse_command_line(int argc, char* const* argv);
[[nodiscard]] std::string help_text();

}  // namespace smbdirect::daemon
