// SPDX-License-Identifier: MIT
#include "daemon/options.h"

#include <array>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "daemon/build_paths.h"

using namespace smbdirect::daemon;
using smbdirect::shm::log::Level;

namespace {

std::expected<CommandLine, std::string> parse(std::vector<std::string> words) {
  words.insert(words.begin(), "smbdirectd");
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  return parse_command_line(int(words.size()), arguments.data());
}

}  // namespace

TEST_CASE("no options: the installed files") {
  const auto line = parse({});
  REQUIRE(line);
  CHECK(line->config_file == kDefaultConfigFile);
  CHECK(line->worker_program == kDefaultWorkerProgram);
  CHECK_FALSE((line->check_config || line->dump_config || line->help || line->version || line->ready_fd));
  CHECK(line->run == CommandLine::Run::foreground);
  CHECK_FALSE((line->no_process_group || line->log_level || line->helper()));
  CHECK(line->log_directory + line->pid_file == "");
}

TEST_CASE("as Samba starts its own helpers") {
  const auto line = parse({"--ready-signal-fd=7", "--parent-watch-fd=0", "--debuglevel=3",
                           "--configfile=pool", "--log-basename=/var/log/samba", "-F"});
  REQUIRE(line);
  CHECK(line->ready_signal_fd == 7);
  CHECK(line->parent_watch_fd == 0);
  CHECK(line->log_level == Level::notice);
  CHECK(line->config_file == "pool");
  CHECK(line->log_directory == "/var/log/samba");
  CHECK(line->run == CommandLine::Run::foreground);
  CHECK(line->helper());
  CHECK(parse({"--ready-signal-fd", "7"})->helper());
  CHECK(parse({"--parent-watch-fd", "7"})->helper());
  CHECK_FALSE(parse({"--ready-fd", "7"})->helper());
}

TEST_CASE("how it runs: -F wins over -D, as in Samba; -D and -i exclude each other") {
  using Run = CommandLine::Run;
  CHECK(parse({"-D"})->run == Run::background);
  CHECK(parse({"--daemon", "--no-process-group"})->run == Run::background);
  CHECK(parse({"--daemon", "--no-process-group"})->no_process_group);
  CHECK(parse({"-i"})->run == Run::interactive);
  CHECK(parse({"--interactive", "-F"})->run == Run::interactive);
  CHECK(parse({"-D", "--foreground"})->run == Run::foreground);
  CHECK(parse({"-F", "-D"})->run == Run::foreground);
  for (const auto& words : {std::vector<std::string>{"-D", "-i"}, {"-i", "-F", "-D"}}) {
    const auto line = parse(words);
    REQUIRE_FALSE(line);
    CHECK(line.error().find("--daemon and --interactive exclude each other") == 0);
  }
}

TEST_CASE("Samba's debug levels are ours by their names") {
  constexpr std::array kExpected{Level::error,  Level::warning, Level::warning, Level::notice,
                                 Level::notice, Level::info,    Level::info,    Level::info,
                                 Level::info,   Level::info,    Level::debug};
  for (size_t number = 0; number < kExpected.size(); ++number)
    CHECK(parse({"-d", std::to_string(number)})->log_level == kExpected[number]);
  for (const char* wrong : {"", "-1", "11", "x", "3 auth:5", "0x3", "1.5", "99999999999"}) {
    const auto line = parse({"--debuglevel", wrong});
    REQUIRE_FALSE(line);
    CHECK(line.error().find("--debuglevel is \"" + std::string(wrong) + "\"; allowed: a number from 0") == 0);
  }
}

TEST_CASE("one descriptor cannot be two things") {
  CHECK(parse({"--ready-fd", "3", "--ready-signal-fd", "4", "--parent-watch-fd", "5"}).has_value());
  for (const auto& words : {std::vector<std::string>{"--ready-fd=3", "--ready-signal-fd=3"},
                            {"--ready-fd=3", "--parent-watch-fd=3"},
                            {"--parent-watch-fd=9", "--ready-signal-fd=9"}}) {
    const auto line = parse(words);
    REQUIRE_FALSE(line);
    CHECK(line.error().find("is named by two options") != std::string::npos);
  }
}

TEST_CASE("each option, long and short") {
  CHECK(parse({"-s", "a"})->config_file == "a");
  CHECK(parse({"--configfile", "a"})->config_file == "a");
  CHECK(parse({"--configfile=a"})->config_file == "a");
  CHECK(parse({"--worker", "w"})->worker_program == "w");
  CHECK(parse({"-l", "d"})->log_directory == "d");
  CHECK(parse({"--pid-file", "p"})->pid_file == "p");
  CHECK(parse({"--check-config"})->check_config);
  CHECK(parse({"--dump-config"})->dump_config);
  CHECK(parse({"-V"})->version);
  CHECK(parse({"--version"})->version);
  CHECK(parse({"-h"})->help);
  CHECK(parse({"-F"}).has_value());
  CHECK(parse({"--foreground"}).has_value());
  CHECK(parse({"--ready-fd", "7"})->ready_fd == 7);
  CHECK(parse({"-F", "-s", "x", "--ready-fd=3"})->ready_fd == 3);
}

TEST_CASE("wrong lines say what is wrong") {
  CHECK(parse({"--bogus"}).error().find("unknown option --bogus") == 0);
  CHECK(parse({"-x"}).error().find("unknown option -x") == 0);
  CHECK(parse({"-s"}).error().find("option -s needs an argument") == 0);
  CHECK(parse({"--worker"}).error().find("option --worker needs an argument") == 0);
  CHECK(parse({"file"}).error().find("unexpected argument file") == 0);
  for (const char* option : {"--ready-fd", "--ready-signal-fd", "--parent-watch-fd"}) {
    for (const char* number : {"", "x", "-1", "3x", "99999999999", "1048577"}) {
      CHECK(parse({option, number}).error() == std::string(option) + " is \"" + number +
                                                   "\"; allowed: the number of an open descriptor; "
                                                   "\"smbdirectd --help\" lists the options");
    }
  }
  for (const char* option : {"-s", "-l", "--pid-file", "--worker"})
    CHECK(parse({option, ""}).error().find("is \"\"; allowed: a path") != std::string::npos);
}

TEST_CASE("the help names every option") {
  const std::string text = help_text();
  for (const OptionRow& row : option_table()) {
    CHECK(text.find("--" + std::string(row.name)) != std::string::npos);
    CHECK(text.find(row.help) != std::string::npos);
  }
}
