// SPDX-License-Identifier: MIT
#include "daemon/options.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <getopt.h>
#include <vector>

#include "daemon/build_paths.h"

namespace smbdirect::daemon {
namespace {

constexpr std::array kOptions{
    OptionRow{'F', "foreground", "", "stay in the foreground (the only mode in this version)"},
    OptionRow{'s', "configfile", "FILE", "read this pool file"},
    OptionRow{'\0', "check-config", "", "check the pool file, print every problem, and exit"},
    OptionRow{'\0', "dump-config", "", "print the pool file with every default filled in, and exit"},
    OptionRow{'\0', "worker", "PATH", "start this worker program"},
    OptionRow{'\0', "ready-fd", "N", "write a newline to this descriptor when the listeners are open"},
    OptionRow{'V', "version", "", "print the version and exit"},
    OptionRow{'h', "help", "", "print this text and exit"},
};

std::optional<int> descriptor_number(std::string_view text) {
  int number = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || end != text.data() + text.size() || number < 0) return std::nullopt;
  return number;
}

}  // namespace

std::span<const OptionRow> option_table() { return kOptions; }

std::expected<CommandLine, std::string> parse_command_line(int argc, char* const* argv) {
  std::string letters = ":";  // we say ourselves what is wrong
  std::vector<option> long_options;
  std::vector<std::string> names;  // with terminators, alive while getopt runs
  for (const OptionRow& row : kOptions) names.emplace_back(row.name);
  constexpr int kFirstLongOnly = 1000;
  for (size_t i = 0; i < kOptions.size(); ++i) {
    const OptionRow& row = kOptions[i];
    const int argument = row.argument.empty() ? no_argument : required_argument;
    long_options.push_back({names[i].c_str(), argument, nullptr, kFirstLongOnly + int(i)});
    if (row.letter == '\0') continue;
    letters += row.letter;
    if (argument == required_argument) letters += ':';
  }
  long_options.push_back({});

  CommandLine line;
  line.config_file = kDefaultConfigFile;
  line.worker_program = kDefaultWorkerProgram;
  const std::string hint = "; \"smbdirectd --help\" lists the options";
  optind = 0;  // GNU: a fresh scan, for tests that parse several lines
  for (;;) {
    const int at = optind == 0 ? 1 : optind;
    const int found = getopt_long(argc, argv, letters.c_str(), long_options.data(), nullptr);
    if (found == -1) break;
    if (found == '?') return std::unexpected("unknown option " + std::string(argv[at]) + hint);
    if (found == ':') return std::unexpected("option " + std::string(argv[at]) + " needs an argument" + hint);
    std::string_view name;
    for (size_t i = 0; i < kOptions.size(); ++i) {
      if (found == kFirstLongOnly + int(i) || found == kOptions[i].letter) name = kOptions[i].name;
    }
    if (name == "configfile") line.config_file = optarg;
    if (name == "worker") line.worker_program = optarg;
    if (name == "check-config") line.check_config = true;
    if (name == "dump-config") line.dump_config = true;
    if (name == "version") line.version = true;
    if (name == "help") line.help = true;
    if (name == "ready-fd") {
      line.ready_fd = descriptor_number(optarg);
      if (!line.ready_fd)
        return std::unexpected("--ready-fd " + std::string(optarg) + " is not a descriptor number");
    }
  }
  if (optind < argc) return std::unexpected("unexpected argument " + std::string(argv[optind]) + hint);
  return line;
}

std::string help_text() {
  std::string text =
      "usage: smbdirectd [options]\n\nSMB Direct (SMB3 over RDMA) for Samba: see smbdirectd(8).\n\n";
  for (const OptionRow& row : kOptions) {
    std::string left = "  ";
    left += row.letter == '\0' ? std::string("    ") : std::string{'-', row.letter, ',', ' '};
    left += "--" + std::string(row.name);
    if (!row.argument.empty()) left += " " + std::string(row.argument);
    left.resize(std::max<size_t>(left.size() + 1, 28), ' ');
    text += left + std::string(row.help) + "\n";
  }
  text += "\nThe pool file is " + std::string(kDefaultConfigFile) +
          " unless -s names another: see smbdirectd-pool(5).\n";
  return text;
}

}  // namespace smbdirect::daemon
