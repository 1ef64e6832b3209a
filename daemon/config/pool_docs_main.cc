// SPDX-License-Identifier: MIT
// pool-docs schema              prints conf/pool.schema.json
// pool-docs manual PAGE         prints the manual page with its list of keys made anew
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
    std::fputs("usage: pool-docs schema | pool-docs manual PAGE\n", stderr);
    return 2;
  }
  std::ifstream in(argv[2]);
  const std::string page{std::istreambuf_iterator<char>(in), {}};
  const size_t begin = page.find(docs::kManualBegin);
  const size_t end = page.find(docs::kManualEnd);
  if (begin == std::string::npos || end == std::string::npos || end < begin) {
    std::fprintf(stderr, "%s has no list of keys to replace\n", argv[2]);
    return 1;
  }
  const std::string made =
      page.substr(0, begin + docs::kManualBegin.size()) + docs::pool_manual_keys() + page.substr(end);
  return std::fputs(made.c_str(), stdout) < 0;
}
