// SPDX-License-Identifier: MIT
#include "daemon/os/line_splitter.h"

#include <string>
#include <vector>

#include <doctest/doctest.h>

using namespace smbdirect::daemon;

namespace {

struct Lines {
  LineSplitter splitter;
  std::vector<std::string> seen;

  void add(std::string_view text) {
    splitter.add(text, [this](std::string_view line) { seen.emplace_back(line); });
  }
  void flush() {
    splitter.flush([this](std::string_view line) { seen.emplace_back(line); });
  }
};

}  // namespace

TEST_CASE("lines come whole, however they are cut") {
  Lines lines;
  for (const char c : std::string("one\ntwo\r\n\n  three")) lines.add(std::string(1, c));
  CHECK(lines.seen == std::vector<std::string>{"one", "two"});
  lines.flush();
  CHECK(lines.seen == std::vector<std::string>{"one", "two", "  three"});
  lines.flush();
  CHECK(lines.seen.size() == 3);
}

TEST_CASE("a line without an end is bounded") {
  Lines lines;
  lines.add(std::string(LineSplitter::kLongest * 2 + 1, 'x') + "\n");
  REQUIRE(lines.seen.size() == 3);
  CHECK(lines.seen[0].size() == LineSplitter::kLongest);
  CHECK(lines.seen[1].size() == LineSplitter::kLongest);
  CHECK(lines.seen[2] == "x");
}

TEST_CASE("a line of the longest length is one line") {
  Lines lines;
  lines.add(std::string(LineSplitter::kLongest, 'x') + "\nnext\n");
  REQUIRE(lines.seen.size() == 2);
  CHECK(lines.seen[0].size() == LineSplitter::kLongest);
}
