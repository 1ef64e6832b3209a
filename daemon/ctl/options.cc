// SPDX-License-Identifier: MIT
#include "daemon/ctl/options.h"

#include <algorithm>
#include <array>
#include <getopt.h>
#include <optional>

#include "daemon/build_paths.h"

namespace smbdirect::daemon {
namespace {

constexpr int kConfigFile = 256;
constexpr int kConnect = 257;
constexpr int kSmbConf = 258;
constexpr int kAll = 259;
constexpr std::array<option, 10> kLong{{{"socket", required_argument, nullptr, 's'},
                                        {"json", no_argument, nullptr, 'j'},
                                        {"events", no_argument, nullptr, 'e'},
                                        {"configfile", required_argument, nullptr, kConfigFile},
                                        {"connect", required_argument, nullptr, kConnect},
                                        {"smb-conf", no_argument, nullptr, kSmbConf},
                                        {"all", no_argument, nullptr, kAll},
                                        {"help", no_argument, nullptr, 'h'},
                                        {"version", no_argument, nullptr, 'V'},
                                        {nullptr, 0, nullptr, 0}}};
constexpr const char* kHint = "; \"smbdirectctl --help\" lists commands and options";

}  // namespace

std::expected<CtlOptions, std::string> parse_ctl_options(int argc, char* const* argv) {
  CtlOptions options;
  options.doctor.config_file = kDefaultConfigFile;
  options.doctor.connect_program = kDefaultConnectProgram;
  bool events = false;
  std::string doctors;  // an option that only the doctor has
  optind = 0;           // GNU: a fresh scan, for tests that parse several lines
  for (;;) {
    const int at = optind == 0 ? 1 : optind;
    const int found = getopt_long(argc, argv, ":s:hV", kLong.data(), nullptr);
    if (found == -1) break;
    if (found == '?') return std::unexpected("unknown option " + std::string(argv[at]) + kHint);
    if (found == ':')
      return std::unexpected("option " + std::string(argv[at]) + " needs an argument" + kHint);
    if (found == 's') options.socket = options.doctor.socket = optarg;
    if (found == kConfigFile) options.doctor.config_file = optarg;
    if (found == kConnect) options.doctor.connect_program = optarg;
    if (found == kSmbConf) options.doctor.smb_conf = true;
    if (found == kAll) options.doctor.all = true;
    if (found >= kConfigFile) doctors = argv[at];
    if (found == 'j') options.json = true;
    if (found == 'e') events = true;
    if (found == 'h') options.help = true;
    if (found == 'V') options.version = true;
  }
  if (options.help || options.version) return options;
  if (optind == argc) return std::unexpected(std::string("no command") + kHint);
  const std::string_view word = argv[optind++];
  const auto command = std::ranges::find(ctl_table(), word, &CtlRow::name);
  const auto own = std::ranges::find(own_table(), word, &OwnRow::name);
  if (own != own_table().end()) options.own = own->command;
  if (!options.own && command == ctl_table().end())
    return std::unexpected("unknown command " + std::string(word) + kHint);
  std::optional<std::string> argument;
  if (!options.own && !command->argument.empty()) {
    if (optind < argc) {
      argument = argv[optind++];
      if (command->number && argument->find_first_not_of("0123456789") != std::string::npos)
        return std::unexpected("\"" + *argument + "\" is no number" + kHint);
    } else if (!may_be_left_out(command->argument)) {
      return std::unexpected("the command " + std::string(word) + " needs an argument, " +
                             std::string(command->argument) + kHint);
    }
  }
  if (optind < argc) return std::unexpected("unexpected argument " + std::string(argv[optind]) + kHint);
  if (events && (options.own || command->command != CtlCommand::connections)) {
    return std::unexpected(std::string("--events is allowed only with the command connections") + kHint);
  }
  if (!doctors.empty() && options.own != OwnCommand::doctor)
    return std::unexpected(doctors + " is allowed only with the command doctor" + kHint);
  if (options.json && options.doctor.smb_conf)
    return std::unexpected(std::string("--smb-conf prints lines for smb.conf, not JSON") + kHint);
  if (options.own) return options;
  options.request = {.command = command->command, .events = events, .argument = argument};
  return options;
}

std::string ctl_help_text() {
  const auto line = [](std::string name, std::string_view argument, std::string_view help) {
    if (!argument.empty()) name += " " + std::string(argument);
    return "  " + name + std::string(16 - name.size(), ' ') + std::string(help) + "\n";
  };
  std::string text = "usage: smbdirectctl [OPTION]... COMMAND\n\nAsks a running smbdirectd. Commands:\n";
  for (const CtlRow& row : ctl_table()) text += line(std::string(row.name), row.argument, row.help);
  text += "\nWithout it:\n";
  for (const OwnRow& row : own_table()) text += line(std::string(row.name), "", row.help);
  return text +
         "\nOptions:\n"
         "  -s, --socket PATH      the daemon's control socket: \"control\" in the pool file's "
         "/run_directory\n"
         "                         (default " +
         CtlOptions{}.socket +
         ")\n"
         "      --json             print the answer as JSON, with more than the table shows\n"
         "      --events           with connections: print the recent events of each\n"
         "      --all              with doctor: print also the checks that passed or were skipped\n"
         "      --smb-conf         with doctor: print the lines that smb.conf needs, and nothing else\n"
         "      --configfile FILE  with doctor: the pool file\n"
         "                         (default " +
         std::string(kDefaultConfigFile) +
         ")\n"
         "      --connect PATH     with doctor: the program smbdirect-connect\n"
         "  -V, --version          print the version and exit\n"
         "  -h, --help             print this text and exit\n";
}

}  // namespace smbdirect::daemon
