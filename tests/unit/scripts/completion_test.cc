// SPDX-License-Identifier: MIT
// What shells complete is what the programs have. How it completes is in
// tests/integration/test_completion.py.
#include <algorithm>
#include <cctype>
#include <set>
#include <string>

#include <doctest/doctest.h>

#include "daemon/ctl/commands.h"
#include "daemon/ctl/options.h"
#include "daemon/exporter/options.h"
#include "daemon/options.h"
#include "scripts/completion/program.h"
#include "workers/connect/options.h"

using namespace smbdirect::completion;
namespace daemon_ = smbdirect::daemon;

namespace {

const Program& named(const std::vector<Program>& all, const std::string& name) {
  const auto found = std::ranges::find(all, name, &Program::name);
  REQUIRE(found != all.end());
  return *found;
}

std::set<std::string> options_of(const Program& program) {
  std::set<std::string> names;
  for (const Option& option : program.options) names.insert(option.name);
  return names;
}

template <class Table>
std::set<std::string> names_of(const Table& table) {
  std::set<std::string> names;
  for (const auto& row : table) names.insert(std::string(row.name));
  return names;
}

/// As a word of its own.
bool has_word(const std::string& text, const std::string& word) {
  const auto part = [](char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '-'; };
  for (size_t at = text.find(word); at != text.npos; at = text.find(word, at + 1)) {
    const size_t end = at + word.size();
    if ((at == 0 || !part(text[at - 1])) && (end == text.size() || !part(text[end]))) return true;
  }
  return false;
}

}  // namespace

TEST_CASE("every option and command of every program's tables is there, for both shells") {
  const auto all = programs();
  CHECK(all.size() == 4);
  CHECK(options_of(named(all, "smbdirectctl")) == names_of(daemon_::ctl_option_table()));
  CHECK(options_of(named(all, "smbdirectd")) == names_of(daemon_::option_table()));
  CHECK(options_of(named(all, "smbdirect-exporter")) == names_of(daemon_::exporter::option_table()));
  CHECK(options_of(named(all, "smbdirect-connect")) == names_of(smbdirect::workers::connect::option_table()));
  std::set<std::string> commands = names_of(daemon_::ctl_table());
  commands.merge(names_of(daemon_::own_table()));
  CHECK(names_of(named(all, "smbdirectctl").commands) == commands);
  for (const Program& program : all) {
    const std::string bash = bash_script(program);
    const std::string zsh = zsh_script(program);
    for (const Option& option : program.options) {
      INFO(program.name << " --" << option.name);
      CHECK(has_word(bash, "--" + option.name));
      CHECK(has_word(zsh, "--" + option.name));
    }
    for (const Command& command : program.commands) {
      INFO(command.name);
      CHECK(has_word(bash, command.name));
      CHECK(zsh.contains("\n  '" + command.name + ":"));
    }
  }
}

TEST_CASE("arguments that are one of some words, files and directories are known as such") {
  const auto all = programs();
  const auto argument = [&](const char* program, const char* option) {
    const auto& options = named(all, program).options;
    const auto found = std::ranges::find(options, option, &Option::name);
    REQUIRE(found != options.end());
    return found->argument;
  };
  CHECK(argument("smbdirectctl", "socket").values == Values::files);
  CHECK(argument("smbdirectd", "log-basename").values == Values::directories);
  CHECK(argument("smbdirectd", "debuglevel").words.size() == 11);
  CHECK(argument("smbdirect-connect", "fabric").words == std::vector<std::string>{"iwarp", "verbs"});
  CHECK(argument("smbdirect-connect", "log-level").words.size() == 5);
  CHECK(argument("smbdirect-exporter", "listen").values == Values::none);
  CHECK(argument("smbdirectctl", "json").name.empty());
}
