// SPDX-License-Identifier: MIT
// Run by the build: metric-docs PAGE.in prints the manual page with its list of metrics.
#include <cstdio>
#include <fstream>
#include <iterator>
#include <string>

#include "daemon/ctl/metrics/metric_docs.h"

int main(int argc, char** argv) {
  namespace docs = smbdirect::daemon::metrics;
  if (argc != 2) {
    std::fputs("usage: metric-docs PAGE.in\n", stderr);
    return 2;
  }
  std::ifstream in(argv[1]);
  std::string page{std::istreambuf_iterator<char>(in), {}};
  const size_t place = page.find(docs::kManualPlace);
  if (place == std::string::npos) {
    std::fprintf(stderr,
                 "metric-docs: %s has no line that begins with '%s', where the list of metrics belongs\n",
                 argv[1], std::string(docs::kManualPlace).c_str());
    return 1;
  }
  page.replace(place, page.find('\n', place) + 1 - place, docs::metric_manual());
  return std::fputs(page.c_str(), stdout) < 0;
}
