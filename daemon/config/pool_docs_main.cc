// SPDX-License-Identifier: MIT
// Run by the build:
// pool-docs schema              prints pool.schema.json
// pool-docs manual PAGE.in      prints the manual page with its list of keys
#include <cstdio>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>

#include "daemon/config/pool_docs.h"

int main(int argc, char** argv) {
  namespace docs = smbdirect::daemon;
  const std::string_view what = argc > 1 ? argv[1] : "";
  if (what == "schema" && argc == 2) return std::fputs(docs::pool_schema().c_str(), stdout) < 0;
  if (what != "manual" || argc != 3) {
    std::fputs("usage: pool-docs schema | pool-docs manual PAGE.in\n", stderr);
    return 2;
  }
  std::ifstream in(argv[2]);
  std::string page{std::istreambuf_iterator<char>(in), {}};
  const size_t place = page.find(docs::kManualPlace);
  if (place == std::string::npos) {
    std::fprintf(stderr, "pool-docs: %s has no line that begins with '%s', where the list of keys belongs\n",
                 argv[2], std::string(docs::kManualPlace).c_str());
    return 1;
  }
  page.replace(place, page.find('\n', place) + 1 - place, docs::pool_manual_keys());
  return std::fputs(page.c_str(), stdout) < 0;
}
