// SPDX-License-Identifier: MIT
// Golden bytes for every frame and header, and the rules of their parsers.
#include <array>
#include <cstring>
#include <random>

#include <doctest/doctest.h>

#include "bytes.h"
#include "workers/fabric/iwarp/byte_order.h"
#include "workers/fabric/iwarp/crc32c.h"
#include "workers/fabric/iwarp/ddp.h"
#include "workers/fabric/iwarp/mpa.h"
#include "workers/fabric/iwarp/terminate.h"

namespace smbdirect::test {
namespace {

using std::string_view_literals::operator""sv;
namespace iwarp = smbdirect::workers::fabric::iwarp;

std::vector<std::byte> crc_of(std::span<const std::byte> bytes) {
  iwarp::Crc32c crc;
  crc.update(bytes);
  const auto wire = crc.wire();
  return {wire.begin(), wire.end()};
}

TEST_CASE("CRC32C is iSCSI's (RFC 3720 B.4), whole and in pieces") {
  const std::vector<std::byte> zeros(32), ones(32, std::byte{0xff});
  CHECK(crc_of(zeros) == hex("aa36918a"));
  CHECK(crc_of(ones) == hex("43aba862"));
  std::vector<std::byte> up(32), down(32);
  for (size_t i = 0; i < 32; ++i) {
    up[i] = static_cast<std::byte>(i);
    down[i] = static_cast<std::byte>(31 - i);
  }
  CHECK(crc_of(up) == hex("4e79dd46"));
  CHECK(crc_of(down) == hex("5cdb3f11"));
  for (size_t cut = 0; cut <= up.size(); ++cut) {
    iwarp::Crc32c crc;
    crc.update(std::span(up).first(cut));
    crc.update(std::span(up).subspan(cut));
    CHECK(crc.value() == 0x46dd794e);
  }
}

TEST_CASE("byte order") {
  std::array<std::byte, 8> at{};
  iwarp::put_be64(at.data(), 0x0102030405060708);
  CHECK(std::to_integer<int>(at[0]) == 1);
  CHECK(std::to_integer<int>(at[7]) == 8);
  CHECK(iwarp::get_be64(at.data()) == 0x0102030405060708);
  CHECK(iwarp::get_be32(at.data() + 2) == 0x03040506);
  CHECK(iwarp::get_be16(at.data() + 6) == 0x0708);
}

TEST_CASE("MPA request: revision 1 without and revision 2 with the enhanced and the legacy data") {
  const auto plain =
      iwarp::encode_mpa_frame({.kind = iwarp::MpaFrameKind::request, .crc = true, .revision = 1}, {});
  CHECK(vec(plain.span()) == hex("4d504120494420526571204672616d65 40 01 0000"));

  iwarp::MpaPrivateData data;
  data.enhanced = iwarp::EnhancedData{
      .ird = 32, .peer_to_peer = true, .rtr_empty = false, .ord = 5, .rtr_write = true, .rtr_read = true};
  data.legacy = iwarp::LegacyDepths{.ird = 32, .ord = 1};
  const auto full = iwarp::encode_mpa_frame({.kind = iwarp::MpaFrameKind::request, .revision = 2}, data);
  CHECK(vec(full.span()) == hex("4d504120494420526571204672616d65 10 02 000c  8020 c005  00000020 00000001"));

  const auto header = iwarp::parse_mpa_header(full.span());
  REQUIRE(header.has_value());
  CHECK(header->kind == iwarp::MpaFrameKind::request);
  CHECK(header->enhanced);
  CHECK_FALSE(header->crc);
  CHECK(header->revision == 2);
  CHECK(header->private_data_length == 12);
  const auto back = iwarp::parse_mpa_private_data(true, full.span().subspan(20));
  REQUIRE(back.has_value());
  CHECK(back->enhanced->ird == 32);
  CHECK(back->enhanced->ord == 5);
  CHECK(back->enhanced->peer_to_peer);
  CHECK_FALSE(back->enhanced->rtr_empty);
  CHECK(back->enhanced->rtr_write);
  CHECK(back->enhanced->rtr_read);
  CHECK(back->legacy->ird == 32);
  CHECK(back->legacy->ord == 1);
}

TEST_CASE("MPA reply: every flag") {
  const auto reply = iwarp::encode_mpa_frame(
      {.kind = iwarp::MpaFrameKind::reply, .markers = true, .crc = true, .reject = true, .revision = 1}, {});
  CHECK(vec(reply.span()) == hex("4d504120494420526570204672616d65 e0 01 0000"));
  const auto header = iwarp::parse_mpa_header(reply.span());
  REQUIRE(header.has_value());
  CHECK(header->kind == iwarp::MpaFrameKind::reply);
  CHECK(header->markers);
  CHECK(header->crc);
  CHECK(header->reject);
  CHECK_FALSE(header->enhanced);
}

TEST_CASE("MPA frames: what is refused and what is ignored") {
  auto frame = hex("4d504120494420526571204672616d65 00 01 0000");
  CHECK(iwarp::parse_mpa_header(std::span(frame).first(19)).error() == iwarp::MpaError::truncated);
  frame[16] = std::byte{0x1f};  // reserved bits in revision 1, S among them
  const auto header = iwarp::parse_mpa_header(frame);
  REQUIRE(header.has_value());
  CHECK_FALSE(header->enhanced);
  frame[18] = std::byte{0x02};
  frame[19] = std::byte{0x00};  // 512: the most there may be
  CHECK(iwarp::parse_mpa_header(frame)->private_data_length == 512);
  frame[19] = std::byte{0x01};
  CHECK(iwarp::parse_mpa_header(frame).error() == iwarp::MpaError::private_data_long);
  frame[0] = std::byte{'m'};
  CHECK(iwarp::parse_mpa_header(frame).error() == iwarp::MpaError::wrong_key);

  CHECK(iwarp::parse_mpa_private_data(true, hex("002000")).error() == iwarp::MpaError::enhanced_missing);
  CHECK_FALSE(iwarp::parse_mpa_private_data(false, hex("00000020000000"))->legacy.has_value());
  CHECK_FALSE(iwarp::parse_mpa_private_data(false, hex("000000200000000100"))->legacy.has_value());
  CHECK(iwarp::parse_mpa_private_data(false, hex("0000002000000001"))->legacy->ird == 32);
  CHECK(iwarp::parse_mpa_private_data(true, hex("00010002 0000002000000001"))->legacy->ord == 1);
  CHECK_FALSE(iwarp::parse_mpa_private_data(false, {})->enhanced.has_value());
}

TEST_CASE("FPDU geometry") {
  CHECK(iwarp::fpdu_pad(14) == 0);
  CHECK(iwarp::fpdu_pad(15) == 3);
  CHECK(iwarp::fpdu_pad(16) == 2);
  CHECK(iwarp::fpdu_pad(17) == 1);
  CHECK(iwarp::fpdu_pad(18) == 0);
  for (uint32_t segment = 1; segment < 70'000; ++segment) {
    const size_t most = iwarp::max_ulpdu(segment);
    CHECK(most >= 128);
    CHECK(iwarp::fpdu_pad(most) == 0);
    const size_t fpdu = 2 + most + 4;
    if (segment < 140 || segment > 65540) continue;
    if (fpdu > segment || segment - fpdu >= 4)
      FAIL("a full FPDU of ", fpdu, " does not fill a segment of ", segment);
  }
  CHECK(iwarp::max_ulpdu(1448) == 1442);
  CHECK(iwarp::max_ulpdu(65483) == 65474);
  CHECK(iwarp::max_ulpdu(1'000'000) == 65534);
}

TEST_CASE("DDP headers: golden bytes") {
  std::array<std::byte, iwarp::kMaxSegmentHeader> at{};
  size_t size = iwarp::encode_ddp_header(
      {.tagged = true, .last = true, .opcode = 0, .stag = 0x11223344, .offset = 0x0102030405060708},
      at.data());
  CHECK(vec(std::span(at).first(size)) == hex("c1 40 11223344 0102030405060708"));
  size = iwarp::encode_ddp_header(
      {.last = false, .opcode = 4, .invalidate_stag = 0xaabbccdd, .queue = 0, .msn = 7, .mo = 0x100},
      at.data());
  CHECK(vec(std::span(at).first(size)) == hex("01 44 aabbccdd 00000000 00000007 00000100"));
  size = iwarp::encode_ddp_header({.last = true, .opcode = 1, .queue = 1, .msn = 1}, at.data());
  iwarp::encode_read_request(
      {.sink_stag = 1, .sink_offset = 2, .size = 3, .source_stag = 4, .source_offset = 5}, at.data() + size);
  CHECK(vec(at) == hex("41 41 00000000 00000001 00000001 00000000"
                       "00000001 0000000000000002 00000003 00000004 0000000000000005"));
}

TEST_CASE("DDP headers: encode and parse agree, seeded") {
  std::mt19937_64 random(99);
  for (int i = 0; i < 2000; ++i) {
    iwarp::DdpHeader in;
    in.tagged = random() % 2 == 0;
    in.last = random() % 2 == 0;
    in.opcode = static_cast<uint8_t>(random() % 16);
    if (in.tagged) {
      in.stag = static_cast<uint32_t>(random());
      in.offset = random();
    } else {
      in.invalidate_stag = static_cast<uint32_t>(random());
      in.queue = static_cast<uint32_t>(random());
      in.msn = static_cast<uint32_t>(random());
      in.mo = static_cast<uint32_t>(random());
    }
    std::array<std::byte, iwarp::kUntaggedHeaderSize> at{};
    const size_t size = iwarp::encode_ddp_header(in, at.data());
    const auto out = iwarp::parse_ddp_header(std::span(at).first(size));
    REQUIRE(out.has_value());
    CHECK(out->tagged == in.tagged);
    CHECK(out->last == in.last);
    CHECK(out->opcode == in.opcode);
    CHECK(out->stag == in.stag);
    CHECK(out->offset == in.offset);
    CHECK(out->invalidate_stag == in.invalidate_stag);
    CHECK(out->queue == in.queue);
    CHECK(out->msn == in.msn);
    CHECK(out->mo == in.mo);
    CHECK(iwarp::parse_ddp_header(std::span(at).first(size - 1)).error() == iwarp::DdpError::truncated);
  }
}

TEST_CASE("DDP headers: versions") {
  CHECK(iwarp::parse_ddp_header(hex("80 40 00000000 0000000000000000")).error() ==
        iwarp::DdpError::ddp_version_tagged);
  CHECK(iwarp::parse_ddp_header(hex("02 43")).error() == iwarp::DdpError::ddp_version_untagged);
  CHECK(iwarp::parse_ddp_header(hex("01 03")).error() == iwarp::DdpError::rdmap_version);
  CHECK(iwarp::parse_ddp_header(hex("01")).error() == iwarp::DdpError::truncated);
  CHECK(iwarp::parse_ddp_header(hex("7d 73 00000000 00000000 00000001 00000000"))
            .has_value());  // reserved bits
}

TEST_CASE("Terminate: what goes along with each kind of error") {
  const auto write = hex("c1 40 11223344 0102030405060708");
  const auto request =
      hex("41 41 00000000 00000001 00000001 00000000"
          "00000001 0000000000000002 00000003 00000004 0000000000000005");
  const auto send = hex("41 43 00000000 00000000 00000001 00000000");
  using namespace iwarp::terminate;
  const auto bytes = [](const iwarp::TerminatePayload& payload) { return vec(payload.span()); };
  CHECK(bytes(iwarp::encode_terminate(kCrc, write, 14)) == hex("20 02 0000"));
  CHECK(bytes(iwarp::encode_terminate(kLocalCatastrophic, send, 18)) == hex("00 00 0000"));
  CHECK(bytes(iwarp::encode_terminate(kTaggedInvalidStag, write, 1014)) ==
        hex("11 00 c000 03f6 c1 40 11223344 0102030405060708"));
  CHECK(bytes(iwarp::encode_terminate(kNoBuffer, send, 18)) ==
        hex("12 02 c000 0012 41 43 00000000 00000000 00000001 00000000"));
  auto expected = hex("01 01 e000 002e");
  expected.insert(expected.end(), request.begin(), request.end());
  CHECK(bytes(iwarp::encode_terminate(kReadBounds, request, 46)) == expected);
  // An operation error shows the DDP header only.
  expected = hex("02 06 c000 002e");
  expected.insert(expected.end(), request.begin(), request.begin() + 18);
  CHECK(bytes(iwarp::encode_terminate(kUnexpectedOpcode, request, 46)) == expected);
  CHECK(bytes(iwarp::encode_terminate(kUnexpectedOpcode, {}, 0)) == hex("02 06 0000"));
  CHECK(bytes(iwarp::encode_terminate(kUnexpectedOpcode, std::span(send).first(5), 5)) == hex("02 06 0000"));
}

TEST_CASE("Terminate: parsed back, cut short anywhere") {
  const auto request =
      hex("41 41 00000000 00000001 00000001 00000000"
          "00000001 0000000000000002 00000003 00000004 0000000000000005");
  const auto payload = iwarp::encode_terminate(iwarp::terminate::kReadInvalidStag, request, 46);
  const auto whole = iwarp::parse_terminate(payload.span());
  REQUIRE(whole.has_value());
  CHECK(whole->code == iwarp::terminate::kReadInvalidStag);
  CHECK(whole->segment_length == 46);
  CHECK(whole->header->queue == 1);
  CHECK(whole->read_request->source_stag == 4);
  for (size_t size = 0; size < payload.size; ++size) {
    const auto part = iwarp::parse_terminate(payload.span().first(size));
    CHECK(part.has_value() == (size >= 4));
    if (!part) continue;
    CHECK(part->code == iwarp::terminate::kReadInvalidStag);
    CHECK(part->header.has_value() == (size >= 24));
    CHECK_FALSE(part->read_request.has_value());
  }
}

TEST_CASE("Terminate codes have names") {
  CHECK(iwarp::terminate_text(iwarp::terminate::kNoBuffer) == "DDP no buffer available (1/2/0x02)");
  CHECK(iwarp::terminate_text({0, 1, 2}) == "RDMAP access rights violation (0/1/0x02)");
  CHECK(iwarp::terminate_text({2, 0, 2}) == "MPA received CRC does not match (2/0/0x02)");
  // A wrong CRC from siw, byte by byte.
  const auto crc = iwarp::parse_terminate(hex("02 02 0000"));
  REQUIRE(crc);
  CHECK(iwarp::terminate_text(crc->code) ==
        "MPA received CRC does not match (0/2/0x02, layer and type swapped as siw does)");
  CHECK(iwarp::terminate_text({2, 1, 2}) ==
        "DDP no buffer available (2/1/0x02, layer and type swapped as siw does)");
  CHECK(iwarp::terminate_text({1, 0, 0}) == "DDP local catastrophic error (1/0/0x00)");  // assigned as it is
  CHECK(iwarp::terminate_text({0, 2, 0x44}) == "RDMAP unassigned code (0/2/0x44)");
  CHECK(iwarp::terminate_text({9, 9, 9}) == "unknown layer unassigned code (9/9/0x09)");
}

}  // namespace
}  // namespace smbdirect::test
