// SPDX-License-Identifier: MIT
// smbdirectd's command line: one table of options behind parsing, --help and the manual page's test. Those
// that Samba's daemons and helpers have (samba-bgqd, samba-dcerpcd) mean the same here. Start-up only.
#pragma once

#include <cstdint>
#include <expected>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "shm/base/log.h"

namespace smbdirect::daemon {

struct CommandLine {
  enum class Run : uint8_t {
    foreground,   // -F, and what is done without any of them
    background,   // -D
    interactive,  // -i: in the foreground, the log to standard output
  };
  std::string config_file;
  std::string worker_program;
  Run run = Run::foreground;
  bool no_process_group = false;
  std::optional<shm::log::Level> log_level;  // instead of /log/level
  std::string debuglevel;                    // that this is, as it was given
  std::string log_directory;                 // empty: not given
  std::string pid_file;                      // empty: none
  bool check_config = false;
  bool dump_config = false;
  bool version = false;
  bool help = false;
  std::optional<int> ready_fd;
  std::optional<int> ready_signal_fd;
  std::optional<int> parent_watch_fd;
  std::optional<int> take_over_fd;

  /// Somebody starts us who watches us himself: systemd is not told then.
  [[nodiscard]] bool helper() const { return ready_signal_fd || parent_watch_fd; }
};

struct OptionRow {
  char letter;  // '\0': none
  std::string_view name;
  std::string_view argument;  // empty: takes none
  std::string_view help;
  /// Returns what is allowed if the argument is not; empty: taken. The argument is null where none is taken.
  std::string_view (*take)(CommandLine& line, const char* argument);
};
[[nodiscard]] std::span<const OptionRow> option_table();

/// Samba's levels 0 to 10 as ours: 0 error, 1 and 2 warning, 3 and 4 notice, 5 to 9 info, 10 debug, each
/// Samba's own name for the lowest of them.
[[nodiscard]] shm::log::Level level_of_debuglevel(int debuglevel);

/// The options with which another process of this program does the same in this one's place, in the
/// foreground; without descriptors.
[[nodiscard]] std::vector<std::string> arguments_again(const CommandLine& line);

/// The error is a line for standard error.
[[nodiscard]] std::expected<CommandLine, std::string> parse_command_line(int argc, char* const* argv);
[[nodiscard]] std::string help_text();

}  // namespace smbdirect::daemon
