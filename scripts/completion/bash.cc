// SPDX-License-Identifier: MIT
#include <algorithm>
#include <string>
#include <vector>

#include "scripts/completion/program.h"

namespace smbdirect::completion {
namespace {

std::string joined(const std::vector<std::string>& words, const char* separator) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : separator) + word;
  return text;
}

/// "-s|--socket".
std::string pattern(const Option& option) {
  const std::string name = "--" + option.name;
  return option.letter == '\0' ? name : std::string("-") + option.letter + "|" + name;
}

std::string proposal(const Argument& argument) {
  switch (argument.values) {
    case Values::none:
      return "";
    case Values::files:
      return "compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- \"$cur\"); ";
    case Values::directories:
      return "compopt -o filenames; mapfile -t COMPREPLY < <(compgen -d -- \"$cur\"); ";
    case Values::words:
      return "mapfile -t COMPREPLY < <(compgen -W '" + joined(argument.words, " ") + "' -- \"$cur\"); ";
  }
  return "";
}

/// Which word is the command: the first that is neither an option nor an option's argument.
std::string find_command(const Program& program) {
  std::vector<std::string> with_argument;
  for (const Option& option : program.options) {
    if (!option.argument.name.empty() && !option.may_be_left_out) with_argument.push_back(pattern(option));
  }
  return "    for ((i = 1; i < COMP_CWORD; i++)); do\n"
         "        case ${COMP_WORDS[i]} in\n"
         "            " +
         joined(with_argument, "|") +
         ")\n"
         "                [[ ${COMP_WORDS[i + 1]} == = ]] && ((i++))\n"
         "                ((i++))\n"
         "                ;;\n"
         "            -* | =) ;;\n"
         "            *) command=${command:-${COMP_WORDS[i]}} ;;\n"
         "        esac\n"
         "    done\n";
}

std::string option_arguments(const Program& program) {
  std::string text = "    case $prev in\n";
  for (const Option& option : program.options) {
    if (option.argument.name.empty()) continue;
    // Where the argument may be left out it follows "=" alone.
    const std::string begin = option.may_be_left_out ? "[[ $assigned ]] && { " : "";
    const std::string end = option.may_be_left_out ? "return; }" : "return";
    text += "        " + pattern(option) + ") " + begin + proposal(option.argument) + end + " ;;\n";
  }
  return text + "    esac\n";
}

std::string options(const Program& program) {
  std::string text = "    if [[ $cur == -* ]]; then\n";
  std::vector<std::string> always;
  for (const Option& option : program.options) {
    if (option.only_with.empty()) always.push_back("--" + option.name);
  }
  text += "        words='" + joined(always, " ") + "'\n";
  for (const Option& option : program.options) {
    if (option.only_with.empty()) continue;
    text += "        [[ -z $command || $command == " + option.only_with + " ]] && words+=' --" + option.name +
            "'\n";
  }
  return text;
}

std::string commands(const Program& program) {
  if (program.commands.empty()) return "";
  std::vector<std::string> names;
  for (const Command& command : program.commands) names.push_back(command.name);
  std::string text =
      "    elif [[ -z $command ]]; then\n"
      "        words='" +
      joined(names, " ") +
      "'\n"
      "    else\n"
      "        case $command in\n";
  for (const Command& command : program.commands) {
    if (command.argument.values == Values::words)
      text += "            " + command.name + ") words='" + joined(command.argument.words, " ") + "' ;;\n";
  }
  return text + "        esac\n";
}

}  // namespace

std::string bash_script(const Program& program) {
  std::string function = "_" + program.name;
  for (char& c : function) {
    if (c == '-') c = '_';
  }
  // Only for an argument that may be left out it matters whether it follows "=".
  const bool assigns = std::ranges::any_of(program.options, &Option::may_be_left_out);
  return "# SPDX-License-Identifier: MIT\n"
         "# shellcheck shell=bash\n"
         "# Completion of " +
         program.name + ", made by the build from the tables of its command line.\n" + function +
         "() {\n"
         "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} command='' words='' " +
         (assigns ? "assigned='' " : "") +
         "i\n"
         "    # --socket=PATH is three words.\n"
         "    if [[ $cur == = ]]; then\n"
         "        cur=''" +
         (assigns ? " assigned=yes\n" : "\n") +
         "    elif [[ $prev == = ]]; then\n"
         "        prev=${COMP_WORDS[COMP_CWORD - 2]}" +
         (assigns ? " assigned=yes\n" : "\n") + "    fi\n" + find_command(program) +
         option_arguments(program) + options(program) + commands(program) +
         "    fi\n"
         "    mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$cur\")\n"
         "}\n"
         "complete -F " +
         function + " " + program.name + "\n";
}

}  // namespace smbdirect::completion
