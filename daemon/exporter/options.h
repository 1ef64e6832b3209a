// SPDX-License-Identifier: MIT
// smbdirect-exporter's command line: one table of options behind parsing, --help, shell completion and the
// manual page's test. Start-up of that program only.
#pragma once

#include <expected>
#include <span>
#include <string>
#include <string_view>

namespace smbdirect::daemon::exporter {

struct Options {
  std::string socket = "/run/smbdirectd/control";
  std::string listen = "127.0.0.1:9945";
  bool help = false;
  bool version = false;
};

struct OptionRow {
  char letter;  // '\0': none
  std::string_view name;
  std::string_view argument;  // empty: takes none
  std::string_view help;
  /// Returns what is allowed if the argument is not; empty: taken. The argument is null where none is taken.
  std::string_view (*take)(Options& options, const char* argument);
};
[[nodiscard]] std::span<const OptionRow> option_table();

/// The error is a line for standard error.
[[nodiscard]] std::expected<Options, std::string> parse_options(int argc, char* const* argv);
[[nodiscard]] std::string help_text();

}  // namespace smbdirect::daemon::exporter
