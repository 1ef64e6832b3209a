// SPDX-License-Identifier: MIT
// Any text is a pool or a list of problems that fit on one line each; a pool's dump is the same pool.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "daemon/config/pool_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace smbdirect::daemon;
  const auto config = parse_pool({reinterpret_cast<const char*>(data), size});
  if (config) {
    const std::string dump = dump_pool(*config);
    const auto again = parse_pool(dump);
    if (!again || dump_pool(*again) != dump) std::abort();
    return 0;
  }
  if (config.error().empty()) std::abort();
  for (const Problem& problem : config.error()) {
    const std::string text = problem_text("pool.json", problem);
    if (problem.line == 0 && size <= kMaxPoolFileBytes) std::abort();
    for (const char c : text) {
      if (static_cast<unsigned char>(c) < 0x20) std::abort();
    }
  }
  return 0;
}
