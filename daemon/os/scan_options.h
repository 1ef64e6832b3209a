// SPDX-License-Identifier: MIT
// Reads a command line by a table of options, whose rows have a letter ('\0': none), a name and the name of
// an argument (empty: none). Each program's own rows say what an option means. Start-up only.
#pragma once

#include <algorithm>
#include <cstddef>
#include <expected>
#include <getopt.h>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace smbdirect::daemon {

template <class Row>
struct ScannedOptions {
  struct Given {
    const Row* row;
    const char* argument;  // null where the row has none
  };
  std::vector<Given> given;  // in their order
  int rest = 0;              // where in argv the other words begin, which getopt puts behind the options
};

/// The error is a line for standard error, with `hint` at its end.
template <class Row>
[[nodiscard]] std::expected<ScannedOptions<Row>, std::string> scan_options(int argc, char* const* argv,
                                                                           std::span<const Row> rows,
                                                                           std::string_view hint) {
  constexpr int kFirstLong = 256;
  std::string letters = ":";  // we say ourselves what is wrong
  std::vector<option> long_options;
  std::vector<std::string> names;  // with terminators, alive while getopt runs
  for (const Row& row : rows) names.emplace_back(row.name);
  for (size_t i = 0; i < rows.size(); ++i) {
    const int argument = rows[i].argument.empty() ? no_argument : required_argument;
    long_options.push_back({names[i].c_str(), argument, nullptr, kFirstLong + int(i)});
    if (rows[i].letter == '\0') continue;
    letters += rows[i].letter;
    if (argument == required_argument) letters += ':';
  }
  long_options.push_back({});
  ScannedOptions<Row> scanned;
  optind = 0;  // GNU: a fresh scan, for tests that parse several lines
  for (;;) {
    const int at = optind == 0 ? 1 : optind;
    const int found = getopt_long(argc, argv, letters.c_str(), long_options.data(), nullptr);
    if (found == -1) break;
    if (found == '?') return std::unexpected("unknown option " + std::string(argv[at]) + std::string(hint));
    if (found == ':')
      return std::unexpected("option " + std::string(argv[at]) + " needs an argument" + std::string(hint));
    const auto row = found >= kFirstLong ? rows.begin() + (found - kFirstLong)
                                         : std::ranges::find(rows, char(found), &Row::letter);
    scanned.given.push_back({&*row, optarg});
  }
  scanned.rest = optind;
  return scanned;
}

}  // namespace smbdirect::daemon
