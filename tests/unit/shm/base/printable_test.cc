// SPDX-License-Identifier: MIT
#include "shm/base/printable.h"

#include <cstdint>
#include <random>
#include <string>

#include <doctest/doctest.h>

using smbdirect::shm::printable;

TEST_CASE("what people write stays as it is") {
  for (const char* text : {"", "a b~!", "näme", "\u00a0", "日本語", "\U0001F600", "Ελλάδα"}) {
    CHECK(printable(text) == text);
  }
}

TEST_CASE("what a terminal would obey, or would hide, is shown as question marks") {
  CHECK(printable("a\x1b[31mb\x07\r\n\tc\x7f") == "a?[31mb????c?");
  CHECK(printable(std::string("a\0b", 3)) == "a?b");
  CHECK(printable("\u009b31m") == "??31m");  // CSI in one character
  CHECK(printable("\x9b"
                  "31m") == "?31m");  // and in one byte
  CHECK(printable("\u202e\u2066\u200e\u2028") == std::string(12, '?'));
  CHECK(printable("\ufeff\u061c") == "?????");
}

TEST_CASE("what is no UTF-8 is nothing") {
  CHECK(printable("\xc3") == "?");
  CHECK(printable("\xc0\x9b") == "??");  // longer than need be
  CHECK(printable("\xe0\x82\x9b") == "???");
  CHECK(printable("\xed\xa0\x80") == "???");  // a surrogate
  CHECK(printable("\xf4\x90\x80\x80") == "????");
  CHECK(printable("\xffx") == "?x");
  CHECK(printable("\xe6\x97") == "??");
  CHECK(printable("\xe6\x1b[") == "??[");
}

TEST_CASE("property: no byte below a blank is left, the length stays, and twice is once") {
  constexpr uint32_t kSeed = 99;
  INFO("seed ", kSeed);
  std::mt19937 random(kSeed);
  for (int round = 0; round < 20'000; ++round) {
    std::string text(random() % 12, ' ');
    for (char& c : text) c = random() % 3 == 0 ? char(random() % 0x40 + 0x80) : char(random());
    const std::string shown = printable(text);
    REQUIRE(shown.size() == text.size());
    REQUIRE(printable(shown) == shown);
    for (const char c : shown) REQUIRE((uint8_t(c) >= 0x20 && c != 0x7f));
  }
}
