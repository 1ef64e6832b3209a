// SPDX-License-Identifier: MIT
#include <string>
#include <string_view>

#include "scripts/completion/program.h"

namespace smbdirect::completion {
namespace {

/// In single quotes, where _arguments would take some characters for its own.
std::string escaped(std::string_view text, std::string_view special) {
  std::string out;
  for (const char c : text) {
    if (c == '\'') {
      out += "'\\''";
      continue;
    }
    if (special.contains(c)) out += '\\';
    out += c;
  }
  return out;
}

std::string action(const Argument& argument) {
  switch (argument.values) {
    case Values::none:
      return " ";
    case Values::files:
      return "_files";
    case Values::directories:
      return "_files -/";
    case Values::words: {
      std::string words;
      for (const std::string& word : argument.words) words += (words.empty() ? "" : " ") + word;
      return "(" + words + ")";
    }
  }
  return " ";
}

std::string option_spec(const Option& option) {
  std::string spec =
      "[" +
      escaped((option.only_with.empty() ? "" : "with " + option.only_with + ": ") + option.help, "[]:\\") +
      "]";
  const bool argument = !option.argument.name.empty();
  if (argument) {
    spec += (option.may_be_left_out ? "::" : ":") + escaped(option.argument.name, ":\\") + ":" +
            action(option.argument);
  }
  const std::string name = "--" + option.name + (option.may_be_left_out ? "=-" : argument ? "=" : "");
  if (option.letter == '\0') return "'" + name + spec + "'";
  const std::string letter = std::string("-") + option.letter;
  return "'(" + letter + " --" + option.name + ")'{" + letter + (argument ? "+" : "") + "," + name + "}'" +
         spec + "'";
}

}  // namespace

std::string zsh_script(const Program& program) {
  std::string text = "#compdef " + program.name +
                     "\n# SPDX-License-Identifier: MIT\n"
                     "# Made by the build from the tables of the program's command line.\n"
                     "local curcontext=\"$curcontext\" state line\n"
                     "typeset -A opt_args\n";
  if (!program.commands.empty()) {
    text += "local -a commands\ncommands=(\n";
    for (const Command& command : program.commands)
      text += "  '" + command.name + ":" + escaped(command.help, "\\") + "'\n";
    text += ")\n";
  }
  text += "_arguments -C -s";
  for (const Option& option : program.options) text += " \\\n  " + option_spec(option);
  if (program.commands.empty()) return text + "\n";
  text +=
      " \\\n  '1: :->command' \\\n  '2: :->argument' && return\n"
      "case $state in\n"
      "  command) _describe -t commands 'command' commands ;;\n"
      "  argument)\n"
      "    case $line[1] in\n";
  for (const Command& command : program.commands) {
    if (command.argument.name.empty()) continue;
    if (command.argument.values == Values::words) {
      text += "      " + command.name + ") _values '" + command.argument.name + "'";
      for (const std::string& word : command.argument.words) text += " " + word;
      text += " ;;\n";
    } else {
      text += "      " + command.name + ") _message '" + command.argument.name + "' ;;\n";
    }
  }
  return text + "    esac\n    ;;\nesac\n";
}

}  // namespace smbdirect::completion
