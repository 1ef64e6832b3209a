// SPDX-License-Identifier: MIT
// Which READs and WRITEs may be answered here by what they say, each reason why not, and the answers.
#include "protocol/smb2/direct_request.h"

#include <doctest/doctest.h>

#include "tests/unit/protocol/smb2/build_pdu.h"
#include "tests/unit/protocol/smb2/server_fixture.h"

namespace smb2_test {

using smb2::Command;
using smb2::DirectAnswer;
using smb2::DirectLimits;
using smb2::DirectRequest;

namespace {

constexpr DirectLimits kLimits{
    .dialect = 0x0302, .multi_credit = true, .max_read = 1 << 20, .max_write = 512 << 10};
constexpr uint64_t kLargest = (uint64_t{1} << 63) - 1;

std::optional<DirectRequest> parse(const Bytes& pdu, const DirectLimits& limits = kLimits) {
  const Bytes whole = exact(pdu);
  return smb2::parse_direct_request(whole, whole.size(), limits);
}
/// The same with one field of the PDU changed.
std::optional<DirectRequest> parse_with(Bytes pdu, size_t at, uint64_t value, size_t width,
                                        const DirectLimits& limits = kLimits) {
  put(pdu, at, value, width);
  return parse(pdu, limits);
}

const Io kChannelIo{.offset = 8192, .length = 100, .channel = 1, .memory = kThreeDescriptors};
const Head kHead{.message_id = 77, .credit_charge = 3, .status = 5};

Bytes channel_read(const Head& head = kHead) { return read_request(head, kChannelIo); }
Bytes inline_read(const Head& head = kHead) { return read_request(head, {.offset = 8192, .length = 100}); }
Bytes channel_write(const Head& head = kHead) { return write_request(head, kChannelIo); }
Bytes inline_write(const Head& head = kHead, uint64_t offset = 8192) {
  return write_request(head, {.offset = offset, .data = pattern(100, 1)});
}
std::vector<Bytes> all(const Head& head = kHead) {
  return {channel_read(head), inline_read(head), channel_write(head), inline_write(head)};
}

Bytes bytes_of(const DirectAnswer& answer) { return exact(answer.span()); }

}  // namespace

TEST_CASE("what a request says") {
  for (const Bytes& pdu : all()) {
    const auto request = parse(pdu);
    REQUIRE(request);
    CHECK(uint64_t(request->command) == get(pdu, 12, 2));
    CHECK(request->message_id == 77);
    CHECK(request->charge == 3);
    CHECK(request->session_id == 0x1122334455);
    CHECK(request->tree_id == 7);
    CHECK(request->channel_sequence == 5);
    CHECK(request->offset == 8192);
    CHECK(request->length == 100);
    CHECK(get(request->file_id.bytes, 0, 8) == 0x77);
    CHECK(get(request->file_id.bytes, 8, 8) == 0x77);
  }
  CHECK(parse(channel_read())->rdma_channel);
  CHECK_FALSE(parse(inline_read())->rdma_channel);
  CHECK(parse(channel_write())->rdma_channel);
  CHECK_FALSE(parse(inline_write())->rdma_channel);
  CHECK(parse(inline_write())->data_offset == 112);
  CHECK(parse_with(channel_read(), 96, 50, 4)->minimum == 50);
  CHECK(parse_with(inline_read(), 96, 100, 4)->minimum == 100);
}

TEST_CASE("an inline WRITE by its first bytes") {
  const Bytes whole = write_request(kHead, {.data = pattern(5000, 1)});
  const auto parsed = [&](size_t here, size_t total) {
    return smb2::parse_direct_request(cut(whole, here), total, kLimits);
  };
  CHECK(parsed(144, whole.size())->length == 5000);
  CHECK(parsed(112, whole.size()));
  CHECK_FALSE(parsed(111, whole.size()));
  CHECK_FALSE(parsed(144, whole.size() - 1));  // its data is not all there
  CHECK_FALSE(parsed(144, 143));
  CHECK_FALSE(parsed(144, 0x1000000));
  // All else must be there.
  CHECK_FALSE(smb2::parse_direct_request(cut(channel_write(), 144), 160, kLimits));
  CHECK_FALSE(smb2::parse_direct_request(cut(channel_read(), 144), 160, kLimits));
  CHECK_FALSE(smb2::parse_direct_request(cut(inline_read(), 112), 113, kLimits));
}

TEST_CASE("headers of what is for smbd") {
  for (const uint32_t flags : {kResponse, kAsync, kRelated, kSigned, 0x10000000u, 0x20000000u, 0x80000000u})
    for (const Bytes& pdu : all({.message_id = 1, .flags = flags})) CHECK_FALSE(parse(pdu));
  for (const Bytes& pdu : all({.message_id = 1, .flags = 0x70})) CHECK(parse(pdu));  // priority
  for (const Bytes& pdu : all({.message_id = ~uint64_t{0}, .credit_charge = 1})) CHECK_FALSE(parse(pdu));
  for (const Bytes& pdu : all({.message_id = ~uint64_t{0} - 1, .credit_charge = 2})) CHECK_FALSE(parse(pdu));
  for (const Bytes& pdu : all()) {
    CHECK_FALSE(parse(chain({pdu, plain(kEcho, {})})));
    CHECK_FALSE(parse_with(pdu, 0, 0xFD, 1));  // encrypted
    CHECK_FALSE(parse_with(pdu, 4, 63, 2));    // no header
    CHECK_FALSE(parse_with(pdu, 12, kIoctl, 2));
    CHECK_FALSE(parse_with(pdu, 64, 48, 2));  // no body
    for (const size_t size : {size_t{0}, size_t{63}, size_t{64}, size_t{111}})
      CHECK_FALSE(parse(cut(pdu, size)));
  }
  CHECK_FALSE(parse(plain(kEcho, {})));
}

TEST_CASE("what it asks for is for smbd") {
  for (const Bytes& pdu : all()) {
    CHECK(parse_with(pdu, 72, kLargest - 100, 8));
    CHECK_FALSE(parse_with(pdu, 72, kLargest - 99, 8));
    CHECK_FALSE(parse_with(pdu, 72, uint64_t{1} << 63, 8));
    CHECK_FALSE(parse_with(pdu, 72, ~uint64_t{0}, 8));
  }
  for (const Bytes& pdu : {channel_read(), inline_read()})
    CHECK_FALSE(parse_with(pdu, 96, 101, 4));  // more than it asks for
  CHECK_FALSE(parse_with(channel_read(), 68, 0, 4));
  CHECK_FALSE(parse_with(inline_read(), 68, 0, 4));
  CHECK_FALSE(parse_with(channel_write(), 100, 0, 4));
  CHECK_FALSE(parse_with(inline_write(), 68, 0, 4));
  CHECK_FALSE(parse(cut(inline_read(), 112)));  // smbd wants a byte of Buffer
  CHECK_FALSE(parse_with(inline_write(), 66, 120, 2));
  CHECK_FALSE(parse_with(inline_write(), 66, 0, 2));
  CHECK_FALSE(parse_with(inline_write(), 68, 101, 4));
  CHECK(parse_with(inline_write(), 68, 99, 4));
}

TEST_CASE("more than was paid for or agreed") {
  const std::vector<BufferDescriptor> much{{0, 1, 4 << 20}};
  const auto channel = [&](uint32_t length, uint16_t charge, bool read, DirectLimits limits = kLimits) {
    const Io io{.length = length, .channel = 1, .memory = much};
    const Head head{.credit_charge = charge};
    return parse(read ? read_request(head, io) : write_request(head, io), limits).has_value();
  };
  CHECK(channel(1 << 20, 16, true));
  CHECK_FALSE(channel(1 << 20, 15, true));
  CHECK_FALSE(channel((1 << 20) + 1, 17, true));
  CHECK(channel(512 << 10, 8, false));
  CHECK_FALSE(channel((512 << 10) + 1, 9, false));
  CHECK(channel(65536, 0, true));
  CHECK_FALSE(channel(65537, 0, true));
  CHECK(parse(inline_read({.credit_charge = 0}))->charge == 1);
  CHECK_FALSE(parse(read_request({.credit_charge = 1}, {.length = 65537})));
  CHECK_FALSE(parse(read_request({.credit_charge = 40}, {.length = (1 << 20) + 1})));

  DirectLimits single = kLimits;
  single.multi_credit = false;
  CHECK(parse(inline_read(), single)->charge == 1);
  CHECK_FALSE(channel(65537, 2, true, single));
}

TEST_CASE("a channel that smbd would not be asked by") {
  for (const bool read : {true, false}) {
    const Bytes good = read ? channel_read() : channel_write();
    const size_t channel = read ? 100 : 96;
    const size_t info = read ? 108 : 104;
    CHECK(parse_with(good, channel, 2, 4));
    CHECK_FALSE(parse_with(good, channel, 3, 4));
    CHECK_FALSE(parse_with(good, info, 0, 2));
    CHECK_FALSE(parse_with(good, info, 113, 2));
    CHECK_FALSE(parse_with(good, info + 2, 0, 2));
    CHECK_FALSE(parse_with(good, info + 2, 47, 2));
    CHECK_FALSE(parse_with(good, 112 + 12, 59, 4));  // less memory than bytes
    CHECK_FALSE(parse_with(good, 112 + 12, 0, 4));
    DirectLimits older = kLimits;
    older.dialect = 0x0300;
    CHECK(parse(good, older));
    CHECK_FALSE(parse_with(good, channel, 2, 4, older));
    older.dialect = 0x0210;
    CHECK_FALSE(parse(good, older));
  }
  CHECK_FALSE(parse_with(channel_write(), 68, 1, 4));  // data in the PDU as well
  CHECK_FALSE(parse_with(channel_write(), 66, 112, 2));
}

TEST_CASE("flags") {
  for (const Bytes& pdu : {channel_read(), inline_read()}) {
    CHECK(parse_with(pdu, 67, 1, 1));        // unbuffered: no other way of reading to smbd
    CHECK_FALSE(parse_with(pdu, 67, 2, 1));  // compressed
    CHECK_FALSE(parse_with(pdu, 67, 0x80, 1));
  }
  for (const Bytes& pdu : {channel_write(), inline_write()}) {
    CHECK(parse_with(pdu, 108, 0, 4));
    for (const uint32_t flags : {1U, 2U, 3U, 4U, 0x80000000U})  // on disk: smbd is to hear of errors
      CHECK_FALSE(parse_with(pdu, 108, flags, 4));
  }
}

TEST_CASE("golden: the answers") {
  Bytes asked =
      channel_read({.message_id = 0x0807060504030201, .flags = 0x20, .credit_charge = 3, .status = 5});
  put(asked, 14, 9, 2);           // credits that it asks for
  put(asked, 32, 0xFEFF, 4);      // its process
  put(asked, 48, 0xAABBCCDD, 4);  // no signature, but bytes in its place
  const auto request = parse(asked);
  REQUIRE(request);
  const Bytes head =
      hex("fe534d42 4000 0300 00000000 0800 0400 21000000 00000000 0102030405060708"
          "fffe0000 07000000 5544332211000000 ddccbbaa000000000000000000000000");
  CHECK(bytes_of(smb2::answer_read(*request, asked, 100, 4)) ==
        head + hex("1100 50 00 00000000 64000000 00000000"));

  CHECK(bytes_of(smb2::answer_read(*parse(inline_read()), inline_read(), 100, 4)) ==
        cut(bytes_of(smb2::answer_read(*parse(inline_read()), inline_read(), 100, 4)), 64) +
            hex("1100 50 00 64000000 00000000 00000000"));
  for (const Bytes& pdu : {channel_write(), inline_write()}) {
    const Bytes answer = bytes_of(smb2::answer_write(*parse(pdu), pdu, 100, 3));
    CHECK(get(answer, 12, 2) == kWrite);
    CHECK(get(answer, 14, 2) == 3);
    CHECK(get(answer, 16, 4) == 1);
    CHECK(std::span(answer).subspan(64).size() == 16);
    CHECK(exact(std::span(answer).subspan(64)) == hex("1100 0000 64000000 00000000 0000 0000"));
  }
}

}  // namespace smb2_test
