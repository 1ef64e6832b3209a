// SPDX-License-Identifier: MIT
#include "daemon/options.h"

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "daemon/build_paths.h"
#include "daemon/os/scan_options.h"
#include "shm/base/number.h"

namespace smbdirect::daemon {
namespace {

constexpr std::string_view kTaken{};

std::optional<int> number_within(std::string_view text, int least, int most) {
  const auto number = shm::number_from_text<int>(text);
  return number && *number >= least && *number <= most ? number : std::nullopt;
}

template <auto Member>
std::string_view set(CommandLine& line, const char* /*none*/) {
  line.*Member = true;
  return kTaken;
}

template <auto Member>
std::string_view text(CommandLine& line, const char* argument) {
  line.*Member = argument;
  return (line.*Member).empty() ? std::string_view("a path") : kTaken;
}

template <auto Member>
std::string_view descriptor(CommandLine& line, const char* argument) {
  constexpr int kMost = 1 << 20;  // more than any process may have
  line.*Member = number_within(argument, 0, kMost);
  return line.*Member ? kTaken : std::string_view("the number of an open descriptor");
}

std::string_view debuglevel(CommandLine& line, const char* argument) {
  const auto level = number_within(argument, 0, 10);
  if (!level) return "a number from 0 (errors only) to 10 (everything)";
  line.debuglevel = argument;
  line.log_level = level_of_debuglevel(*level);
  return kTaken;
}

using Line = CommandLine;
constexpr std::array kOptions{
    OptionRow{'F', "foreground", "", "stay in the foreground; so it is without -D, too",
              [](Line&, const char*) { return kTaken; }},
    OptionRow{'D', "daemon", "", "go to the background; returns when the listeners are open",
              [](Line&, const char*) { return kTaken; }},
    OptionRow{'i', "interactive", "", "stay in the foreground and write the log to standard output",
              [](Line&, const char*) { return kTaken; }},
    OptionRow{'\0', "no-process-group", "", "with -D: stay in the session and process group of the caller",
              set<&Line::no_process_group>},
    OptionRow{'s', "configfile", "FILE", "read this pool file", text<&Line::config_file>},
    OptionRow{'d', "debuglevel", "LEVEL", "log as much as Samba at 0 to 10, whatever /log/level says",
              debuglevel},
    OptionRow{'l', "log-basename", "DIR", "append the log to DIR/log.smbdirectd", text<&Line::log_directory>},
    OptionRow{'\0', "pid-file", "FILE", "hold this file with the daemon's process id in it",
              text<&Line::pid_file>},
    OptionRow{'\0', "check-config", "", "check the pool file, print every problem, and exit",
              set<&Line::check_config>},
    OptionRow{'\0', "dump-config", "", "print the pool file with every default filled in, and exit",
              set<&Line::dump_config>},
    OptionRow{'\0', "worker", "PATH", "start this worker program", text<&Line::worker_program>},
    OptionRow{'\0', "ready-fd", "N", "write a newline to this descriptor when the listeners are open",
              descriptor<&Line::ready_fd>},
    OptionRow{'\0', "ready-signal-fd", "N",
              "write the process id (a pid_t) to this descriptor when the listeners are open",
              descriptor<&Line::ready_signal_fd>},
    OptionRow{'\0', "parent-watch-fd", "N", "stop when this descriptor, a pipe of the parent's, ends",
              descriptor<&Line::parent_watch_fd>},
    OptionRow{'\0', "take-over-fd", "N",
              "take over from the daemon behind this descriptor: see smbdirectctl upgrade",
              descriptor<&Line::take_over_fd>},
    OptionRow{'V', "version", "", "print the version and exit", set<&Line::version>},
    OptionRow{'h', "help", "", "print this text and exit", set<&Line::help>},
};

constexpr std::string_view kHint = "; \"smbdirectd --help\" lists the options";

/// What no single option can say.
std::expected<CommandLine, std::string> together(CommandLine line, std::string_view runs) {
  const auto given = [&](char letter) { return runs.find(letter) != std::string_view::npos; };
  if (given('D') && given('i')) {
    return std::unexpected("--daemon and --interactive exclude each other: allowed is one of them" +
                           std::string(kHint));
  }
  // As in Samba, whose own daemons are started with both: the foreground wins.
  if (given('D') && !given('F')) line.run = CommandLine::Run::background;
  if (given('i')) line.run = CommandLine::Run::interactive;
  std::vector<std::optional<int>> descriptors{line.ready_fd, line.ready_signal_fd, line.parent_watch_fd,
                                              line.take_over_fd};
  std::erase(descriptors, std::nullopt);
  std::ranges::sort(descriptors);
  if (const auto twice = std::ranges::adjacent_find(descriptors); twice != descriptors.end()) {
    return std::unexpected("descriptor " + std::to_string(**twice) +
                           " is named by two options; allowed: one for each" + std::string(kHint));
  }
  return line;
}

}  // namespace

std::span<const OptionRow> option_table() { return kOptions; }

shm::log::Level level_of_debuglevel(int debuglevel) {
  if (debuglevel >= 10) return shm::log::Level::debug;
  if (debuglevel >= 5) return shm::log::Level::info;
  if (debuglevel >= 3) return shm::log::Level::notice;
  if (debuglevel >= 1) return shm::log::Level::warning;
  return shm::log::Level::error;
}

std::expected<CommandLine, std::string> parse_command_line(int argc, char* const* argv) {
  auto scanned = scan_options(argc, argv, option_table(), kHint);
  if (!scanned) return std::unexpected(std::move(scanned.error()));
  CommandLine line;
  line.config_file = kDefaultConfigFile;
  line.worker_program = kDefaultWorkerProgram;
  std::string runs;  // the letters of -F, -D and -i
  for (const auto& [row, argument] : scanned->given) {
    if (row->letter != '\0') runs += row->letter;
    if (const std::string_view allowed = row->take(line, argument); !allowed.empty()) {
      return std::unexpected("--" + std::string(row->name) + " is \"" + argument +
                             "\"; allowed: " + std::string(allowed) + std::string(kHint));
    }
  }
  if (scanned->rest < argc)
    return std::unexpected("unexpected argument " + std::string(argv[scanned->rest]) + std::string(kHint));
  return together(std::move(line), runs);
}

std::vector<std::string> arguments_again(const CommandLine& line) {
  std::vector<std::string> words{line.run == CommandLine::Run::interactive ? "-i" : "-F"};
  const auto add = [&](const char* option, const std::string& value) {
    if (!value.empty()) words.insert(words.end(), {option, value});
  };
  if (line.config_file != kDefaultConfigFile) add("--configfile", line.config_file);
  // Where it was not named, another release has its own.
  if (line.worker_program != kDefaultWorkerProgram) add("--worker", line.worker_program);
  add("--debuglevel", line.debuglevel);
  add("--log-basename", line.log_directory);
  add("--pid-file", line.pid_file);
  return words;
}

std::string help_text() {
  std::string text =
      "usage: smbdirectd [options]\n\nSMB Direct (SMB3 over RDMA) for Samba: see smbdirectd(8).\n\n";
  for (const OptionRow& row : kOptions) {
    std::string left = "  ";
    left += row.letter == '\0' ? std::string("    ") : std::string{'-', row.letter, ',', ' '};
    left += "--" + std::string(row.name);
    if (!row.argument.empty()) left += " " + std::string(row.argument);
    left.resize(std::max<size_t>(left.size() + 1, 30), ' ');
    text += left + std::string(row.help) + "\n";
  }
  text += "\nThe pool file is " + std::string(kDefaultConfigFile) +
          " unless -s names another: see smbdirectd-pool(5).\n";
  return text;
}

}  // namespace smbdirect::daemon
