// SPDX-License-Identifier: MIT
#include "scripts/completion/program.h"

#include <algorithm>
#include <array>

#include "daemon/ctl/commands.h"
#include "daemon/ctl/options.h"
#include "daemon/exporter/options.h"
#include "daemon/options.h"
#include "shm/base/log.h"
#include "workers/connect/options.h"

namespace smbdirect::completion {
namespace {

std::vector<std::string> log_levels() {
  using enum shm::log::Level;
  std::vector<std::string> names;
  for (const shm::log::Level level : {error, warning, notice, info, debug})
    names.emplace_back(shm::log::level_name(level));
  return names;
}

std::vector<std::string> debug_levels() {
  std::vector<std::string> names;
  for (int level = 0; level <= 10; ++level) names.push_back(std::to_string(level));
  return names;
}

std::vector<std::string> split(const std::string& text) {
  std::vector<std::string> words;
  for (size_t at = 0; at <= text.size();) {
    const size_t end = std::min(text.find('|', at), text.size());
    words.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return words;
}

/// By the words that the tables have for arguments: "PATH", "DIR", "iwarp|verbs".
Argument argument(std::string_view name, const std::vector<std::string>& levels) {
  Argument out{.name = std::string(name)};
  if (name == "PATH" || name == "FILE") out.values = Values::files;
  if (name == "DIR") out.values = Values::directories;
  if (name == "LEVEL") out.words = levels;
  if (name.contains('|')) out.words = split(out.name);
  if (!out.words.empty()) out.values = Values::words;
  return out;
}

Program ctl() {
  Program program{.name = "smbdirectctl", .options = {}};
  for (const daemon::CtlRow& row : daemon::ctl_table()) {
    program.commands.push_back({.name = std::string(row.name),
                                .argument = argument(row.argument, log_levels()),
                                .help = std::string(row.help)});
  }
  for (const daemon::OwnRow& row : daemon::own_table())
    program.commands.push_back({.name = std::string(row.name), .help = std::string(row.help)});
  for (const daemon::CtlOptionRow& row : daemon::ctl_option_table()) {
    program.options.push_back({.letter = row.letter,
                               .name = std::string(row.name),
                               .argument = argument(row.argument, {}),
                               .only_with = std::string(row.only_with),
                               .help = std::string(row.help)});
  }
  return program;
}

Program supervisor() {
  Program program{.name = "smbdirectd", .options = {}};
  for (const daemon::OptionRow& row : daemon::option_table()) {
    program.options.push_back({.letter = row.letter,
                               .name = std::string(row.name),
                               .argument = argument(row.argument, debug_levels()),
                               .help = std::string(row.help)});
  }
  return program;
}

Program exporter() {
  Program program{.name = "smbdirect-exporter", .options = {}};
  for (const daemon::exporter::OptionRow& row : daemon::exporter::option_table()) {
    program.options.push_back({.letter = row.letter,
                               .name = std::string(row.name),
                               .argument = argument(row.argument, {}),
                               .help = std::string(row.help)});
  }
  return program;
}

Program connect() {
  using Row = workers::connect::OptionRow;
  Program program{.name = "smbdirect-connect", .options = {}};
  for (const Row& row : workers::connect::option_table()) {
    std::string help = row.help;
    std::ranges::replace(help, '\n', ' ');
    program.options.push_back(
        {.letter = row.letter,
         .name = row.name,
         .argument = argument(row.argument_name == nullptr ? "" : row.argument_name, log_levels()),
         .may_be_left_out = row.argument == Row::Argument::optional,
         .help = help});
  }
  return program;
}

}  // namespace

std::vector<Program> programs() { return {ctl(), supervisor(), exporter(), connect()}; }

}  // namespace smbdirect::completion
