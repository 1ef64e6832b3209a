// SPDX-License-Identifier: MIT
#include "daemon/options.h"

#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "daemon/build_paths.h"

using namespace smbdirect::daemon;

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
}

TEST_CASE("each option, long and short") {
  CHECK(parse({"-s", "a"})->config_file == "a");
  CHECK(parse({"--configfile", "a"})->config_file == "a");
  CHECK(parse({"--configfile=a"})->config_file == "a");
  CHECK(parse({"--worker", "w"})->worker_program == "w");
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
  for (const char* number : {"", "x", "-1", "3x", "99999999999"}) {
    CHECK(parse({"--ready-fd", number}).error().find("is not a descriptor number") != std::string::npos);
  }
}

TEST_CASE("the help names every option") {
  const std::string text = help_text();
  for (const OptionRow& row : option_table()) {
    CHECK(text.find("--" + std::string(row.name)) != std::string::npos);
    CHECK(text.find(row.help) != std::string::npos);
  }
}
