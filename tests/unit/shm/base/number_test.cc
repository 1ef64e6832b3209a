// SPDX-License-Identifier: MIT
#include "shm/base/number.h"

#include <cstdint>

#include <doctest/doctest.h>

using smbdirect::shm::number_from_text;

TEST_CASE("a text is a number as a whole or not at all") {
  CHECK(number_from_text<uint16_t>("0") == 0);
  CHECK(number_from_text<uint16_t>("65535") == 65535);
  CHECK(number_from_text<uint16_t>("01BD", 16) == 445);
  CHECK(number_from_text<int>("-3") == -3);
  for (const char* text :
       {"", " 1", "1 ", "+1", "-1", "1x", "x", "65536", "99999999999999999999", "0x1", "1.0"}) {
    INFO(text);
    CHECK_FALSE(number_from_text<uint16_t>(text));
  }
}
