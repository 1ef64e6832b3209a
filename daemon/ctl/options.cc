// SPDX-License-Identifier: MIT
#include "daemon/ctl/options.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <getopt.h>
#include <optional>

namespace smbdirect::daemon {
namespace {

constexpr std::array<option, 6> kLong{{{"socket", required_argument, nullptr, 's'},
                                       {"json", no_argument, nullptr, 'j'},
                                       {"events", no_argument, nullptr, 'e'},
                                       {"help", no_argument, nullptr, 'h'},
                                       {"version", no_argument, nullptr, 'V'},
                                       {nullptr, 0, nullptr, 0}}};
constexpr const char* kHint = "; \"smbdirectctl --help\" lists commands and options";

std::optional<uint32_t> number(std::string_view text) {
  uint32_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

}  // namespace

std::expected<CtlOptions, std::string> parse_ctl_options(int argc, char* const* argv) {
  CtlOptions options;
  bool events = false;
  optind = 0;  // GNU: a fresh scan, for tests that parse several lines
  for (;;) {
    const int at = optind == 0 ? 1 : optind;
    const int found = getopt_long(argc, argv, ":s:hV", kLong.data(), nullptr);
    if (found == -1) break;
    if (found == '?') return std::unexpected("unknown option " + std::string(argv[at]) + kHint);
    if (found == ':')
      return std::unexpected("option " + std::string(argv[at]) + " needs an argument" + kHint);
    if (found == 's') options.socket = optarg;
    if (found == 'j') options.json = true;
    if (found == 'e') events = true;
    if (found == 'h') options.help = true;
    if (found == 'V') options.version = true;
  }
  if (options.help || options.version) return options;
  if (optind == argc) return std::unexpected(std::string("no command") + kHint);
  const std::string_view word = argv[optind++];
  const auto command = std::ranges::find(ctl_table(), word, &CtlRow::name);
  if (command == ctl_table().end()) return std::unexpected("unknown command " + std::string(word) + kHint);
  std::optional<uint32_t> workers;
  if (!command->argument.empty()) {
    if (optind == argc) {
      return std::unexpected("the command " + std::string(word) + " needs an argument, " +
                             std::string(command->argument) + kHint);
    }
    workers = number(argv[optind]);
    if (!workers) {
      return std::unexpected("\"" + std::string(argv[optind]) + "\" is no number of workers" + kHint);
    }
    ++optind;
  }
  if (optind < argc) return std::unexpected("unexpected argument " + std::string(argv[optind]) + kHint);
  if (events && command->command != CtlCommand::connections) {
    return std::unexpected(std::string("--events is allowed only with the command connections") + kHint);
  }
  options.request = {.command = command->command, .events = events, .workers = workers};
  return options;
}

std::string ctl_help_text() {
  std::string text =
      "usage: smbdirectctl [--socket PATH] [--json] COMMAND\n\nAsks a running smbdirectd. Commands:\n";
  for (const CtlRow& row : ctl_table()) {
    const std::string name =
        std::string(row.name) + (row.argument.empty() ? "" : " " + std::string(row.argument));
    text += "  " + name + std::string(14 - name.size(), ' ') + std::string(row.help) + "\n";
  }
  return text +
         "\nOptions:\n"
         "  -s, --socket PATH  the daemon's control socket: \"control\" in the pool file's /run_directory\n"
         "                     (default " +
         CtlOptions{}.socket +
         ")\n"
         "      --json         print the answer as JSON, with more than the table shows\n"
         "      --events       with connections: print the recent events of each\n"
         "  -V, --version      print the version and exit\n"
         "  -h, --help         print this text and exit\n";
}

}  // namespace smbdirect::daemon
