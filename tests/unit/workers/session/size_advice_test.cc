// SPDX-License-Identifier: MIT
// The words an administrator needs when smb.conf offers more than the pool file lets through.
#include "workers/session/size_advice.h"

#include <doctest/doctest.h>

using smbdirect::workers::oversize_advice;
using smbdirect::workers::size_advice;
using smbdirect::workers::SizeLimits;

namespace {

constexpr uint32_t kDefault = 8u << 20;
constexpr SizeLimits kLimits{.max_fragmented_size = 8519680, .max_read_write_size = kDefault};

std::string advice(uint32_t transact, uint32_t read, uint32_t write) {
  return size_advice({.dialect = 0x0302,
                      .max_transact_size = transact,
                      .max_read_size = read,
                      .max_write_size = write},
                     kLimits)
      .value_or("");
}
bool names(const std::string& text, const char* key) { return text.find(key) != std::string::npos; }

}  // namespace

TEST_CASE("Samba's defaults and ours fit") { CHECK(advice(kDefault, kDefault, kDefault).empty()); }

TEST_CASE("what does not fit is named, with the keys on both sides") {
  for (const bool transact : {false, true}) {
    const std::string text = advice(transact ? 16776960 : kDefault, kDefault, transact ? kDefault : 16776960);
    CHECK(names(text, "/smbdirect/max_fragmented_size (8519680)"));
    CHECK(names(text, "16776960"));
    CHECK(names(text, "smb2 max write"));
    CHECK(names(text, "smb2 max trans"));
    CHECK(names(text, "/smbdirect/max_read_write_size") == !transact);
  }
  const std::string read = advice(kDefault, kDefault + 1, kDefault);
  CHECK_FALSE(names(read, "max_fragmented_size"));
  CHECK(names(read, "/smbdirect/max_read_write_size (8388608)"));
  CHECK(names(read, "smb2 max read"));
  CHECK(names(oversize_advice(kLimits), "/smbdirect/max_fragmented_size (8519680)"));
}
