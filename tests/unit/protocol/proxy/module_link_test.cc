// SPDX-License-Identifier: MIT
// The packets between a worker and the module in smbd, byte for byte.
#include "protocol/proxy/module_link.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <random>
#include <string_view>
#include <utility>

#include <doctest/doctest.h>

using namespace smbdirect::protocol::proxy;

namespace {

LinkPacket packet(uint32_t type, std::string_view text = "") {
  LinkPacket bytes{};
  bytes[0] = std::byte(type);
  for (size_t i = 0; i < 4; ++i) bytes[4 + i] = std::byte(0x11 * (4 - i));  // 0x11223344
  for (size_t i = 0; i < 8; ++i) bytes[8 + i] = std::byte(0xA0 + i);
  for (size_t i = 0; i < 16; ++i) bytes[16 + i] = std::byte(i);
  std::memcpy(&bytes[32], text.data(), text.size());
  return bytes;
}

}  // namespace

TEST_CASE("what the module says") {
  constexpr LinkSaid kSaid[] = {LinkSaid::hello,     LinkSaid::tree,       LinkSaid::tree_refused,
                                LinkSaid::tree_gone, LinkSaid::area_added, LinkSaid::area_gone};
  constexpr uint32_t kTypes[] = {1, 2, 3, 4, 6, 8};
  for (size_t i = 0; i < std::size(kSaid); ++i) {
    const auto message = parse_link(packet(kTypes[i], "share"));
    REQUIRE(message);
    CHECK(message->said == kSaid[i]);
    CHECK(message->number == 0x11223344);
    CHECK(message->session == 0xA7A6A5A4A3A2A1A0);
    CHECK(message->token[15] == std::byte{15});
    CHECK(message->text == "share");
  }
}

TEST_CASE("what the module does not say") {
  for (const uint32_t type : {0u, 5u, 7u, 9u, 255u}) {
    const auto message = parse_link(packet(type));
    REQUIRE_FALSE(message);
    CHECK(message.error() == LinkError::unknown_type);
  }
  LinkPacket high = packet(1);
  high[3] = std::byte{1};
  CHECK(parse_link(high).error() == LinkError::unknown_type);
  const LinkPacket good = packet(1);
  for (const size_t size : {size_t{0}, size_t{1}, good.size() - 1})
    CHECK(parse_link(std::span(good).first(size)).error() == LinkError::bad_length);
  LinkPacket endless = packet(2);
  std::fill(endless.begin() + 32, endless.end(), std::byte{'x'});
  CHECK(parse_link(endless).error() == LinkError::bad_text);
  endless.back() = std::byte{0};
  CHECK(parse_link(endless)->text.size() == SMBDIRECT_LINK_TEXT_SIZE - 1);
}

TEST_CASE("a text goes into logs as it can be read") {
  CHECK(parse_link(packet(2, "a\n\x1b[31m\xc3\xbc"))->text == "a??[31m??");
}

TEST_CASE("what a worker says") {
  AreaToken token{};
  for (size_t i = 0; i < token.size(); ++i) token[i] = std::byte(0xC0 + i);
  for (const auto& [bytes, type] : {std::pair{encode_area(token), 5}, {encode_area_drop(token), 7}}) {
    CHECK(bytes[0] == std::byte(type));
    CHECK(std::equal(token.begin(), token.end(), bytes.begin() + 16));
    for (size_t i = 1; i < bytes.size(); ++i) {
      if (i < 16 || i >= 32) CHECK(bytes[i] == std::byte{0});
    }
  }
}

TEST_CASE("random packets") {
  std::mt19937 random(20261129);
  for (int round = 0; round < 10'000; ++round) {
    LinkPacket bytes = packet(1 + random() % 8, "text");
    for (int n = 0; n < 3; ++n) bytes[random() % bytes.size()] = std::byte(random() & 0xFF);
    const auto message = parse_link(bytes);
    if (!message) continue;
    CHECK(message->text.size() < SMBDIRECT_LINK_TEXT_SIZE);
    CHECK(std::ranges::all_of(message->text, [](char c) { return c >= 0x20 && c < 0x7f; }));
  }
}
