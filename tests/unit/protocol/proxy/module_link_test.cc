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

void put(LinkPacket& bytes, size_t at, uint64_t value, size_t width) {
  for (size_t i = 0; i < width; ++i) bytes[at + i] = std::byte(value >> (8 * i) & 0xFF);
}

constexpr uint32_t kTable = 11, kGrant = 12, kRights = 13, kClosed = 14;

/// GRANT, RIGHTS, CLOSED.
LinkPacket of_slot(uint32_t type, uint32_t slot, uint32_t rights = 3) {
  LinkPacket bytes = packet(type);
  put(bytes, 4, slot, 4);
  put(bytes, 32, 0x51525354, 4);
  put(bytes, 36, 0x61626364, 4);
  put(bytes, 40, rights, 4);
  put(bytes, 44, 0x7172, 2);
  return bytes;
}

}  // namespace

TEST_CASE("what the module says") {
  constexpr LinkSaid kSaid[] = {LinkSaid::hello,      LinkSaid::tree,          LinkSaid::tree_refused,
                                LinkSaid::tree_gone,  LinkSaid::area_added,    LinkSaid::area_gone,
                                LinkSaid::direct_not, LinkSaid::direct_refused};
  constexpr uint32_t kTypes[] = {1, 2, 3, 4, 6, 8, 10, 15};
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
  for (const uint32_t type : {0u, 5u, 7u, 9u, 17u, 255u}) {
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

TEST_CASE("the table") {
  LinkPacket bytes = packet(kTable);
  for (const uint32_t slots : {1u, 4096u}) {
    put(bytes, 4, slots, 4);
    const auto message = parse_link(bytes);
    REQUIRE(message);
    CHECK(message->said == LinkSaid::table);
    CHECK(message->number == slots);
  }
  for (const uint32_t slots : {0u, 4097u, 0xFFFFFFFFu}) {
    put(bytes, 4, slots, 4);
    CHECK(parse_link(bytes).error() == LinkError::bad_slot);
  }
}

TEST_CASE("what the links have under way") {
  LinkPacket bytes = packet(16);
  for (const uint32_t row : {0u, 31u}) {
    put(bytes, 4, row, 4);
    const auto message = parse_link(bytes);
    REQUIRE(message);
    CHECK(message->said == LinkSaid::use);
    CHECK(message->number == row);
  }
  for (const uint32_t row : {32u, 0xFFFFFFFFu}) {
    put(bytes, 4, row, 4);
    CHECK(parse_link(bytes).error() == LinkError::bad_row);
  }
}

TEST_CASE("opens for direct I/O") {
  constexpr std::pair<uint32_t, LinkSaid> kKinds[] = {
      {kGrant, LinkSaid::grant}, {kRights, LinkSaid::rights}, {kClosed, LinkSaid::closed}};
  for (const auto& [type, said] : kKinds) {
    const auto message = parse_link(of_slot(type, 4095, 2));
    REQUIRE(message);
    CHECK(message->said == said);
    CHECK(message->number == 4095);
    CHECK(message->session == 0xA7A6A5A4A3A2A1A0);
    for (size_t i = 0; i < message->token.size(); ++i) CHECK(message->token[i] == std::byte(i));
    CHECK(message->grant.tree == 0x51525354);
    CHECK(message->grant.generation == 0x61626364);
    CHECK(message->grant.rights == 2);
    CHECK(message->grant.channel_sequence == 0x7172);
    CHECK(message->text.empty());

    CHECK(parse_link(of_slot(type, 4096)).error() == LinkError::bad_slot);
    CHECK(parse_link(of_slot(type, 0xFFFFFFFF)).error() == LinkError::bad_slot);
    for (const uint32_t rights : {4u, 0x100u, 0x80000001u})
      CHECK(parse_link(of_slot(type, 0, rights)).error() == LinkError::bad_rights);
    for (size_t at = 46; at < SMBDIRECT_LINK_SIZE; ++at) {
      LinkPacket more = of_slot(type, 0);
      more[at] = std::byte{1};
      CHECK(parse_link(more).error() == LinkError::bad_grant);
    }
  }
  CHECK(parse_link(of_slot(kGrant, 0, 0)).error() == LinkError::bad_rights);
  CHECK(parse_link(of_slot(kRights, 0, 0))->grant.rights == 0);
  CHECK(parse_link(of_slot(kClosed, 0, 0)));
}

TEST_CASE("golden: a GRANT") {
  LinkPacket bytes{};
  constexpr uint8_t kBegin[] = {12, 0, 0, 0, 5,    0, 0, 0, 0xEF, 0xBE, 0,  0,  0,  0,  0,  0x80,
                                1,  2, 3, 4, 5,    6, 7, 8, 9,    10,   11, 12, 13, 14, 15, 16,
                                7,  0, 0, 0, 0x21, 0, 0, 0, 3,    0,    0,  0,  2,  0};
  std::memcpy(bytes.data(), kBegin, sizeof kBegin);
  const auto message = parse_link(bytes);
  REQUIRE(message);
  CHECK(message->number == 5);
  CHECK(message->session == 0x800000000000BEEF);
  CHECK(message->grant.tree == 7);
  CHECK(message->grant.generation == 0x21);
  CHECK(message->grant.rights == 3);
  CHECK(message->grant.channel_sequence == 2);
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

TEST_CASE("a worker does direct I/O") {
  LinkPacket direct{};
  direct[0] = std::byte{9};
  CHECK(encode_direct() == direct);
}

TEST_CASE("random packets") {
  std::mt19937 random(20261129);
  for (int round = 0; round < 20'000; ++round) {
    const auto type = uint32_t(1 + random() % 15);
    LinkPacket bytes =
        type < kTable || type > kClosed ? packet(type, "text") : of_slot(type, random() % 4096);
    for (int n = 0; n < 3; ++n) bytes[random() % bytes.size()] = std::byte(random() & 0xFF);
    const auto message = parse_link(bytes);
    if (!message) continue;
    CHECK(message->text.size() < SMBDIRECT_LINK_TEXT_SIZE);
    CHECK(message->grant.rights <= 3);
    if (message->said == LinkSaid::grant) CHECK(message->number < SMBDIRECT_SLOTS_MAX);
    CHECK(std::ranges::all_of(message->text, [](char c) { return c >= 0x20 && c < 0x7f; }));
  }
}
