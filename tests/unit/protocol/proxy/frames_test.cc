// SPDX-License-Identifier: MIT
#include "protocol/proxy/frames.h"

#include <algorithm>
#include <initializer_list>
#include <optional>

#include <doctest/doctest.h>

using namespace smbdirect::protocol::proxy;  // NOLINT: what is tested

namespace {

using Bytes = std::vector<std::byte>;

Bytes raw(std::initializer_list<int> values) {
  Bytes bytes;
  for (const int value : values) bytes.push_back(static_cast<std::byte>(value));
  return bytes;
}

template <typename Range>
Bytes bytes_of(const Range& range) {
  return {range.begin(), range.end()};
}

Bytes joined(std::initializer_list<Bytes> parts) {
  Bytes all;
  for (const Bytes& part : parts) all.insert(all.end(), part.begin(), part.end());
  return all;
}

template <size_t N>
std::array<std::byte, N> counting(int from) {
  std::array<std::byte, N> bytes{};
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(from++);
  return bytes;
}

/// The wire format once more, as numbers.
struct Type {
  uint16_t number;
  Sender sender;
  uint32_t fixed;
  uint32_t each;
  uint32_t max_count;
  uint32_t rest_min;
  uint32_t rest_max;
};
constexpr Type kTypes[] = {
    {1, Sender::worker, 80, 0, 0, 1, 65536},   {2, Sender::worker, 0, 0, 0, 1, 0xFFFFFF},
    {3, Sender::worker, 0, 0, 0, 0, 0},        {4, Sender::worker, 0, 0, 0, 0, 0},
    {16, Sender::peer, 20, 0, 0, 0, 0},        {17, Sender::peer, 4, 0, 0, 0, 0},
    {18, Sender::peer, 0, 4, 16, 1, 0xFFFFFF}, {19, Sender::peer, 16, 16, 512, 0, 0},
    {20, Sender::peer, 16, 16, 512, 0, 0},     {32, Sender::daemon, 4, 0, 0, 0, 0},
    {33, Sender::daemon, 0, 0, 0xFFFF, 0, 0},  {34, Sender::daemon, 52, 0, 0, 1, 107},
    {48, Sender::main, 0, 0, 0xFFFF, 0, 0},
};
constexpr Sender kSenders[] = {Sender::worker, Sender::peer, Sender::daemon, Sender::main};

/// What is wrong with such a header, if anything is.
std::optional<FrameError> fault(uint32_t length, uint16_t type, uint16_t count, Sender sender) {
  const FrameHeader header{
      .length = length, .type = static_cast<FrameType>(type), .count = count, .id = 0x1122334455667788};
  const auto bytes = encode_header(header);
  const auto parsed = parse_frame_header(bytes, sender);
  if (!parsed) return parsed.error();
  CHECK(encode_header(*parsed) == bytes);
  CHECK(parsed->id == header.id);
  return std::nullopt;
}

Facts some_facts() {
  Facts facts{.area_bytes = 0x1122334455667788,
              .max_pdu = 0x00A0B0C0,
              .max_read_write = 0x01020304,
              .max_operations = 0x0506,
              .client_guid = {counting<16>(0x40)},
              .client = {.family = 4, .port = 0xC001, .bytes = {}},
              .server = {.family = 6, .port = 445, .bytes = counting<16>(0x60)},
              .negotiate = raw({0xFE, 'S', 'M', 'B'})};
  std::ranges::copy(raw({192, 0, 2, 7}), facts.client.bytes.begin());
  return facts;
}

}  // namespace

TEST_CASE("golden: a header") {
  const FrameHeader header{
      .length = 0x00010203, .type = FrameType::reply, .count = 0x10, .id = 0x0807060504030201};
  const Bytes wire = raw({3, 2, 1, 0, 18, 0, 0x10, 0, 1, 2, 3, 4, 5, 6, 7, 8});
  CHECK(bytes_of(encode_header(header)) == wire);
}

TEST_CASE("each type has the bodies that it may have, and no others") {
  for (const Type& type : kTypes) {
    CAPTURE(type.number);
    for (const uint32_t wanted : {0U, 1U, type.max_count}) {
      const auto count = static_cast<uint16_t>(std::min(wanted, type.max_count));
      const uint32_t least = type.fixed + type.each * count + type.rest_min;
      const uint32_t most = type.fixed + type.each * count + type.rest_max;
      CHECK_FALSE(fault(least, type.number, count, type.sender));
      CHECK_FALSE(fault(most, type.number, count, type.sender));
      if (least > 0) CHECK(fault(least - 1, type.number, count, type.sender) == FrameError::bad_length);
      CHECK(fault(most + 1, type.number, count, type.sender) == FrameError::bad_length);
      CHECK(fault(UINT32_MAX, type.number, count, type.sender) == FrameError::bad_length);
    }
    if (type.max_count < 0xFFFF) {
      const auto more = static_cast<uint16_t>(type.max_count + 1);
      CHECK(fault(type.fixed + type.each * more + type.rest_min, type.number, more, type.sender) ==
            FrameError::bad_value);
      CHECK(fault(type.fixed + type.rest_min, type.number, 0xFFFF, type.sender) == FrameError::bad_value);
    }
  }
}

TEST_CASE("everybody says its own types only") {
  for (uint32_t number = 0; number <= 0xFFFF; ++number) {
    const Type* type = std::ranges::find(kTypes, number, &Type::number);
    for (const Sender sender : kSenders) {
      const bool own = type != std::end(kTypes) && type->sender == sender;
      const uint32_t length = own ? type->fixed + type->rest_min : 0;
      const auto found = fault(length, static_cast<uint16_t>(number), 0, sender);
      if (found != (own ? std::nullopt : std::optional(FrameError::unknown_type))) {
        FAIL_CHECK("type ", number, " of sender ", int(sender));
      }
    }
  }
}

TEST_CASE("golden: FACTS") {
  const Bytes wire = joined(
      {raw({1, 0, 0, 0}), raw({0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11}),
       raw({0xC0, 0xB0, 0xA0, 0x00}), raw({4, 3, 2, 1}), raw({6, 5, 0, 0}), bytes_of(counting<16>(0x40)),
       raw({4, 0, 0x01, 0xC0, 192, 0, 2, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}), raw({6, 0, 0xBD, 0x01}),
       bytes_of(counting<16>(0x60)), raw({0xFE, 'S', 'M', 'B'})});
  const Facts facts = some_facts();
  CHECK(encode_facts(facts) == wire);
  const auto parsed = parse_facts(wire);
  REQUIRE(parsed);
  CHECK(parsed->area_bytes == facts.area_bytes);
  CHECK(parsed->max_pdu == facts.max_pdu);
  CHECK(parsed->max_read_write == facts.max_read_write);
  CHECK(parsed->max_operations == facts.max_operations);
  CHECK(parsed->client_guid == facts.client_guid);
  CHECK(parsed->client == facts.client);
  CHECK(parsed->server == facts.server);
  CHECK(parsed->negotiate == facts.negotiate);
}

TEST_CASE("FACTS that make no sense are refused, and so is every cut of good ones") {
  const Bytes good = encode_facts(some_facts());
  for (size_t size = 0; size <= kFactsFixedBytes; ++size) {
    CHECK(parse_facts(std::span(good).first(size)).error() == FrameError::bad_length);
  }
  const auto with = [&](auto change) {
    Facts facts = some_facts();
    change(facts);
    return parse_facts(encode_facts(facts));
  };
  CHECK(with([](Facts& f) { f.max_pdu = kMaxPdu; }));
  CHECK(with([](Facts& f) { f.negotiate.resize(kMaxNegotiate); }));
  CHECK(with([](Facts& f) { f.negotiate.resize(kMaxNegotiate + 1); }).error() == FrameError::bad_length);
  CHECK(with([](Facts& f) { f.max_pdu = 0; }).error() == FrameError::bad_value);
  CHECK(with([](Facts& f) { f.max_pdu = kMaxPdu + 1; }).error() == FrameError::bad_value);
  CHECK(with([](Facts& f) { f.max_operations = 0; }).error() == FrameError::bad_value);
  CHECK(with([](Facts& f) { f.client.family = 5; }).error() == FrameError::bad_value);
  CHECK(with([](Facts& f) { f.server.family = 0; }).error() == FrameError::bad_value);
  Bytes other = good;
  other[0] = std::byte{2};
  CHECK(parse_facts(other).error() == FrameError::bad_version);
}

TEST_CASE("golden: an operation") {
  Operation operation{.area_offset = 0x0102030405060708, .length = 0x30, .memory = {}};
  operation.memory.push_back({.offset = 0x1112131415161718, .token = 0x21222324, .length = 0x10});
  operation.memory.push_back({.offset = 1, .token = 2, .length = 0x20});
  const Bytes wire =
      raw({8,    7,    6,    5,    4,    3,    2,    1,    0x30, 0,    0,    0,    0,    0, 0, 0,  //
           0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11, 0x24, 0x23, 0x22, 0x21, 0x10, 0, 0, 0,  //
           1,    0,    0,    0,    0,    0,    0,    0,    2,    0,    0,    0,    0x20, 0, 0, 0});
  CHECK(encode_operation(operation) == wire);
  Operation parsed;
  parsed.memory.resize(7);  // what was there goes
  REQUIRE(parse_operation(wire, 2, parsed));
  CHECK(parsed.area_offset == operation.area_offset);
  CHECK(parsed.length == operation.length);
  REQUIRE(parsed.memory.size() == 2);
  CHECK(encode_operation(parsed) == wire);

  CHECK(parse_operation(wire, 1, parsed).error() == FrameError::bad_length);
  CHECK(parse_operation(wire, 3, parsed).error() == FrameError::bad_length);
  CHECK(parse_operation(std::span(wire).first(47), 2, parsed).error() == FrameError::bad_length);
  CHECK(parse_operation({}, 0, parsed).error() == FrameError::bad_length);
}

TEST_CASE("an operation has a length, and memory for it") {
  const auto parsed = [](uint32_t length, std::initializer_list<uint32_t> pieces) {
    Operation operation{.area_offset = 0, .length = length, .memory = {}};
    for (const uint32_t piece : pieces)
      operation.memory.push_back({.offset = 0, .token = 1, .length = piece});
    Operation into;
    return parse_operation(encode_operation(operation), static_cast<uint16_t>(pieces.size()), into);
  };
  CHECK(parsed(1, {1}));
  CHECK(parsed(UINT32_MAX, {UINT32_MAX, UINT32_MAX}));  // their sum does not wrap
  CHECK(parsed(10, {4, 0, 6}));
  CHECK(parsed(0, {1}).error() == FrameError::bad_value);
  CHECK(parsed(1, {}).error() == FrameError::bad_value);
  CHECK(parsed(11, {4, 0, 6}).error() == FrameError::bad_value);
  Operation most{.area_offset = 0, .length = 1, .memory = {}};
  most.memory.resize(kMaxOperationDescriptors + 1);
  most.memory[0].length = 1;
  Operation into;
  CHECK(parse_operation(encode_operation(most), kMaxOperationDescriptors + 1, into).error() ==
        FrameError::bad_length);
  most.memory.pop_back();
  CHECK(parse_operation(encode_operation(most), kMaxOperationDescriptors, into));
}

TEST_CASE("golden: START") {
  const Start start{.cookie = {counting<16>(0x10)},
                    .client_guid = {counting<16>(0x80)},
                    .client = {.family = 6, .port = 0x1234, .bytes = counting<16>(0x30)},
                    .socket = "/run/w"};
  const Bytes wire =
      joined({bytes_of(counting<16>(0x10)), bytes_of(counting<16>(0x80)), raw({6, 0, 0x34, 0x12}),
              bytes_of(counting<16>(0x30)), raw({'/', 'r', 'u', 'n', '/', 'w'})});
  CHECK(encode_start(start) == wire);
  const auto parsed = parse_start(wire);
  REQUIRE(parsed);
  CHECK(parsed->cookie == start.cookie);
  CHECK(parsed->client_guid == start.client_guid);
  CHECK(parsed->client == start.client);
  CHECK(parsed->socket == start.socket);

  for (size_t size = 0; size <= kStartFixedBytes; ++size) {
    CHECK(parse_start(std::span(wire).first(size)).error() == FrameError::bad_length);
  }
  Start other = start;
  other.socket = std::string(kMaxSocketPath, 's');
  CHECK(parse_start(encode_start(other)));
  other.socket += 's';
  CHECK(parse_start(encode_start(other)).error() == FrameError::bad_length);
  other.socket = std::string("/a\0b", 4);
  CHECK(parse_start(encode_start(other)).error() == FrameError::bad_value);
  other = start;
  other.client.family = 10;
  CHECK(parse_start(encode_start(other)).error() == FrameError::bad_value);
}

TEST_CASE("golden: HELLO, and a version by itself") {
  const Cookie cookie{counting<16>(0xA0)};
  const Bytes hello = joined({raw({1, 0, 0, 0}), bytes_of(cookie.bytes)});
  CHECK(encode_hello(cookie) == hello);
  CHECK(parse_hello(hello) == cookie);
  CHECK(parse_hello(std::span(hello).first(19)).error() == FrameError::bad_length);
  CHECK(parse_hello(joined({hello, raw({0})})).error() == FrameError::bad_length);
  CHECK(parse_hello(joined({raw({1, 0, 0, 1}), bytes_of(cookie.bytes)})).error() == FrameError::bad_version);

  CHECK(bytes_of(encode_version()) == raw({1, 0, 0, 0}));
  CHECK(parse_version(raw({1, 0, 0, 0})));
  CHECK(parse_version(raw({0, 0, 0, 0})).error() == FrameError::bad_version);
  CHECK(parse_version(raw({1, 0, 0})).error() == FrameError::bad_length);
  CHECK(parse_version(raw({1, 0, 0, 0, 0})).error() == FrameError::bad_length);
  CHECK(parse_version({}).error() == FrameError::bad_length);
}

TEST_CASE("each error has its own words, and the line is the control socket's") {
  std::vector<std::string_view> texts;
  for (const auto error :
       {FrameError::unknown_type, FrameError::bad_length, FrameError::bad_version, FrameError::bad_value}) {
    const auto text = frame_error_text(error);
    CHECK(text.size() > 5);
    CHECK(std::ranges::find(texts, text) == texts.end());
    texts.push_back(text);
  }
  CHECK(kRegisterLine == "{\"command\":\"register\"}\n");
}
