// SPDX-License-Identifier: MIT
// The command lines of the programs as shells complete them, read from the tables that the programs parse by.
// Run by the build; pure.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace smbdirect::completion {

/// What can stand for an argument.
enum class Values : unsigned char {
  none,  // nothing can be proposed
  files,
  directories,
  words,
};

struct Argument {
  std::string name;  // as --help has it; empty: there is none
  Values values = Values::none;
  std::vector<std::string> words{};
};

struct Option {
  char letter = '\0';  // '\0': none
  std::string name;
  Argument argument{};
  bool may_be_left_out = false;  // the argument: --stats[=json]
  std::string only_with{};       // the one command that has it; empty: all
  std::string help{};
};

struct Command {
  std::string name;
  Argument argument{};
  std::string help{};
};

struct Program {
  std::string name;
  std::vector<Option> options;
  std::vector<Command> commands{};
};

[[nodiscard]] std::vector<Program> programs();

/// Files that the shells load when they first complete the program.
[[nodiscard]] std::string bash_script(const Program& program);
[[nodiscard]] std::string zsh_script(const Program& program);

}  // namespace smbdirect::completion
