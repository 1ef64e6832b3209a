// SPDX-License-Identifier: MIT
#include "daemon/ctl/options.h"

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "daemon/build_paths.h"
#include "daemon/os/scan_options.h"

namespace smbdirect::daemon {
namespace {

using Options = CtlOptions;

constexpr std::array kOptions{
    CtlOptionRow{'s', "socket", "PATH", "", "ask at this control socket",
                 [](Options& o, const char* path) { o.socket = o.doctor.socket = path; }},
    CtlOptionRow{'\0', "json", "", "", "print the answer as JSON, with more than the text shows",
                 [](Options& o, const char*) { o.json = true; }},
    CtlOptionRow{'\0', "events", "", "connections", "print the recent events of each",
                 [](Options& o, const char*) { o.events = true; }},
    CtlOptionRow{'\0', "once", "", "top", "print the figures of one second and exit",
                 [](Options& o, const char*) { o.once = true; }},
    CtlOptionRow{'\0', "all", "", "doctor", "print also the checks that passed or were skipped",
                 [](Options& o, const char*) { o.doctor.all = true; }},
    CtlOptionRow{'\0', "smb-conf", "", "doctor", "print the lines that smb.conf needs, and nothing else",
                 [](Options& o, const char*) { o.doctor.smb_conf = true; }},
    CtlOptionRow{'\0', "configfile", "FILE", "doctor", "the pool file",
                 [](Options& o, const char* file) { o.doctor.config_file = file; }},
    CtlOptionRow{'\0', "connect", "PATH", "doctor", "the program smbdirect-connect",
                 [](Options& o, const char* program) { o.doctor.connect_program = program; }},
    CtlOptionRow{'V', "version", "", "", "print the version and exit",
                 [](Options& o, const char*) { o.version = true; }},
    CtlOptionRow{'h', "help", "", "", "print this text and exit",
                 [](Options& o, const char*) { o.help = true; }},
};
constexpr const char* kHint = "; \"smbdirectctl --help\" lists commands and options";

/// What no option and no command can say alone.
std::expected<CtlOptions, std::string> together(CtlOptions options,
                                                const ScannedOptions<CtlOptionRow>& scanned,
                                                std::string_view command) {
  for (const auto& [row, argument] : scanned.given) {
    if (row->only_with.empty() || row->only_with == command) continue;
    return std::unexpected("--" + std::string(row->name) + " is allowed only with the command " +
                           std::string(row->only_with) + kHint);
  }
  if (options.json && options.doctor.smb_conf)
    return std::unexpected(std::string("--smb-conf prints lines for smb.conf, not JSON") + kHint);
  options.request.events = options.events;
  return options;
}

}  // namespace

std::span<const CtlOptionRow> ctl_option_table() { return kOptions; }

std::expected<CtlOptions, std::string> parse_ctl_options(int argc, char* const* argv) {
  const auto scanned = scan_options(argc, argv, ctl_option_table(), kHint);
  if (!scanned) return std::unexpected(scanned.error());
  CtlOptions options;
  options.doctor.config_file = kDefaultConfigFile;
  options.doctor.connect_program = kDefaultConnectProgram;
  for (const auto& [row, argument] : scanned->given) row->take(options, argument);
  if (options.help || options.version) return options;
  int at = scanned->rest;
  if (at == argc) return std::unexpected(std::string("no command") + kHint);
  const std::string_view word = argv[at++];
  const auto command = std::ranges::find(ctl_table(), word, &CtlRow::name);
  const auto own = std::ranges::find(own_table(), word, &OwnRow::name);
  if (own != own_table().end()) options.own = own->command;
  if (!options.own && command == ctl_table().end())
    return std::unexpected("unknown command " + std::string(word) + kHint);
  if (!options.own) options.request.command = command->command;
  if (!options.own && !command->argument.empty()) {
    if (at < argc) {
      options.request.argument = argv[at++];
      if (command->number && options.request.argument->find_first_not_of("0123456789") != std::string::npos)
        return std::unexpected("\"" + *options.request.argument + "\" is no number" + kHint);
    } else if (!may_be_left_out(command->argument)) {
      return std::unexpected("the command " + std::string(word) + " needs an argument, " +
                             std::string(command->argument) + kHint);
    }
  }
  if (at < argc) return std::unexpected("unexpected argument " + std::string(argv[at]) + kHint);
  return together(std::move(options), *scanned, word);
}

std::string ctl_help_text() {
  const auto line = [](std::string left, size_t width, std::string_view help) {
    left.resize(std::max(left.size() + 1, width), ' ');
    return left + std::string(help) + "\n";
  };
  const auto command = [&](std::string_view name, std::string_view argument, std::string_view help) {
    return line("  " + std::string(name) + (argument.empty() ? "" : " " + std::string(argument)), 18, help);
  };
  std::string text = "usage: smbdirectctl [OPTION]... COMMAND\n\nAsks a running smbdirectd. Commands:\n";
  for (const CtlRow& row : ctl_table()) text += command(row.name, row.argument, row.help);
  for (const OwnRow& row : own_table()) {
    if (row.asks) text += command(row.name, "", row.help);
  }
  text += "\nWithout it:\n";
  for (const OwnRow& row : own_table()) {
    if (!row.asks) text += command(row.name, "", row.help);
  }
  text += "\nOptions:\n";
  for (const CtlOptionRow& row : kOptions) {
    std::string left = row.letter == '\0' ? "      " : std::string{' ', ' ', '-', row.letter, ',', ' '};
    left += "--" + std::string(row.name);
    if (!row.argument.empty()) left += " " + std::string(row.argument);
    const std::string with = row.only_with.empty() ? "" : "with " + std::string(row.only_with) + ": ";
    text += line(std::move(left), 26, with + std::string(row.help));
  }
  return text +
         "\nThe control socket is \"control\" in the pool file's /run_directory: " + CtlOptions{}.socket +
         " unless\n--socket names another. The pool file is " + std::string(kDefaultConfigFile) +
         ". See smbdirectctl(8).\n";
}

}  // namespace smbdirect::daemon
