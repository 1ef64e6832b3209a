// SPDX-License-Identifier: MIT
// What is agreed at set-up: CRC, read depths, ready-to-receive, refusals; and the frame reader.
#include "workers/fabric/iwarp/setup.h"

#include <algorithm>

#include <doctest/doctest.h>

#include "bytes.h"

namespace smbdirect::test {
namespace {

namespace iwarp = smbdirect::workers::fabric::iwarp;
using iwarp::EnhancedData;
using iwarp::MpaFrameKind;
using iwarp::MpaHeader;
using iwarp::MpaPrivateData;

constexpr iwarp::SetupOffer kOffer{
    .want_crc = false, .max_inbound_reads = 16, .max_outbound_reads = 8, .revision = 2};

struct Reply {
  MpaHeader header;
  MpaPrivateData data;
};

Reply parsed(const iwarp::MpaFrame& frame) {
  const auto header = iwarp::parse_mpa_header(frame.span());
  REQUIRE(header.has_value());
  CHECK(frame.size == 20U + header->private_data_length);
  const auto data = iwarp::parse_mpa_private_data(header->enhanced, frame.span().subspan(20));
  REQUIRE(data.has_value());
  return {*header, *data};
}

MpaHeader request(uint8_t revision, bool crc = false) {
  return {.kind = MpaFrameKind::request, .crc = crc, .enhanced = revision == 2, .revision = revision};
}

TEST_CASE("CRC is used when either side wants it") {
  for (const bool ours : {false, true}) {
    for (const bool theirs : {false, true}) {
      auto offer = kOffer;
      offer.want_crc = ours;
      const auto answer = iwarp::answer_request(offer, request(1, theirs), {});
      REQUIRE(answer.agreed.has_value());
      CHECK(answer.agreed->crc == (ours || theirs));
      CHECK(parsed(answer.reply).header.crc == (ours || theirs));
      const auto agreed = iwarp::judge_reply(
          offer, {.kind = MpaFrameKind::reply, .crc = theirs, .enhanced = true, .revision = 2},
          {.enhanced = EnhancedData{.ird = 8, .ord = 8}, .legacy = {}});
      REQUIRE(agreed.has_value());
      CHECK(agreed->crc == (ours || theirs));
    }
  }
}

TEST_CASE("revision 1: nothing is negotiated, ours counts, and no private data is answered") {
  const auto answer = iwarp::answer_request(kOffer, request(1), {});
  REQUIRE(answer.agreed.has_value());
  CHECK(answer.agreed->ord == 8);
  CHECK(answer.agreed->ird == 16);
  CHECK(vec(answer.reply.span()) == hex("4d504120494420526570204672616d65 00 01 0000"));
}

TEST_CASE("revision 2: read depths") {
  struct Row {
    uint16_t peer_ird, peer_ord, our_ord, our_ird, reply_ird;
  };
  for (const Row& row :
       {Row{32, 1, 8, 1, 1}, Row{4, 32, 4, 16, 16}, Row{0, 0, 1, 1, 0}, Row{0x3fff, 0x3fff, 8, 16, 16}}) {
    CAPTURE(row.peer_ird);
    const auto answer = iwarp::answer_request(
        kOffer, request(2),
        {.enhanced = EnhancedData{.ird = row.peer_ird, .ord = row.peer_ord}, .legacy = {}});
    REQUIRE(answer.agreed.has_value());
    CHECK(answer.agreed->ord == row.our_ord);
    CHECK(answer.agreed->ird == row.our_ird);
    const auto reply = parsed(answer.reply);
    CHECK(reply.header.revision == 2);
    CHECK(reply.data.enhanced->ord == row.our_ord);
    CHECK(reply.data.enhanced->ird == row.reply_ird);
    CHECK_FALSE(reply.data.enhanced->peer_to_peer);
    CHECK_FALSE(reply.data.legacy.has_value());
  }
}

TEST_CASE("revision 2 without the enhanced flag is answered without it") {
  auto header = request(2);
  header.enhanced = false;
  const auto reply = parsed(iwarp::answer_request(kOffer, header, {}).reply);
  CHECK(reply.header.revision == 2);
  CHECK_FALSE(reply.header.enhanced);
}

TEST_CASE("peer-to-peer: which ready-to-receive message is chosen") {
  struct Row {
    bool empty, write, read;  // what the initiator can send
    bool want_empty, want_write, want_read;
  };
  for (const Row& row :
       {Row{true, true, true, false, true, false}, Row{true, false, true, false, false, true},
        Row{true, false, false, true, false, false}, Row{false, false, false, false, true, false},
        Row{false, false, true, false, false, true}}) {
    const auto answer = iwarp::answer_request(kOffer, request(2),
                                              {.enhanced = EnhancedData{.ird = 1,
                                                                        .peer_to_peer = true,
                                                                        .rtr_empty = row.empty,
                                                                        .ord = 1,
                                                                        .rtr_write = row.write,
                                                                        .rtr_read = row.read},
                                               .legacy = {}});
    REQUIRE(answer.agreed.has_value());
    const auto reply = parsed(answer.reply).data.enhanced;
    CHECK(reply->peer_to_peer);
    CHECK(reply->rtr_empty == row.want_empty);
    CHECK(reply->rtr_write == row.want_write);
    CHECK(reply->rtr_read == row.want_read);
    CHECK(answer.agreed->rtr_empty == row.want_empty);
  }
}

TEST_CASE("SMB Direct's legacy depths are answered big-endian and never fail") {
  const auto answer_to = [](uint32_t ird, uint32_t ord, bool enhanced) {
    MpaPrivateData data;
    data.legacy = iwarp::LegacyDepths{.ird = ird, .ord = ord};
    if (enhanced) data.enhanced = EnhancedData{.ird = 32, .ord = 1};
    return iwarp::answer_request(kOffer, request(enhanced ? 2 : 1), data);
  };
  auto answer = answer_to(4, 2, false);
  REQUIRE(answer.agreed.has_value());
  CHECK(answer.agreed->ord == 4);
  CHECK(vec(answer.reply.span()) == hex("4d504120494420526570204672616d65 00 01 0008 00000004 00000002"));
  answer = answer_to(32, 1, true);
  CHECK(answer.agreed->ord == 8);
  CHECK(vec(answer.reply.span()) ==
        hex("4d504120494420526570204672616d65 10 02 000c 0001 0008 00000008 00000001"));
  // Host order, as old initiators write it: 32 and 1 read as huge numbers.
  answer = answer_to(0x20000000, 0x01000000, true);
  CHECK(answer.agreed->ord == 8);
  CHECK(parsed(answer.reply).data.legacy->ird == 8);
  CHECK(parsed(answer.reply).data.legacy->ord == 16);
  answer = answer_to(0, 0, true);
  REQUIRE(answer.agreed.has_value());
  CHECK(answer.agreed->ord == 8);
  CHECK(parsed(answer.reply).data.legacy->ird == 8);
}

TEST_CASE("refusals: markers and unknown revisions") {
  auto header = request(2);
  header.markers = true;
  auto answer =
      iwarp::answer_request(kOffer, header, {.enhanced = EnhancedData{.ird = 1, .ord = 1}, .legacy = {}});
  CHECK_FALSE(answer.agreed.has_value());
  CHECK(answer.refusal != nullptr);
  auto reply = parsed(answer.reply);
  CHECK(reply.header.reject);
  CHECK_FALSE(reply.header.markers);
  CHECK(reply.header.enhanced);
  for (const uint8_t revision : {uint8_t{0}, uint8_t{3}, uint8_t{255}}) {
    auto odd = request(1);
    odd.revision = revision;
    answer = iwarp::answer_request(kOffer, odd, {});
    CHECK_FALSE(answer.agreed.has_value());
    reply = parsed(answer.reply);
    CHECK(reply.header.reject);
    CHECK(reply.header.revision == (revision == 0 ? 1 : 2));
  }
}

TEST_CASE("our own request") {
  auto offer = kOffer;
  offer.want_crc = true;
  CHECK(vec(iwarp::make_request(offer).span()) ==
        hex("4d504120494420526571204672616d65 50 02 000c 0010 0008 00000010 00000008"));
  offer.revision = 1;
  CHECK(vec(iwarp::make_request(offer).span()) ==
        hex("4d504120494420526571204672616d65 40 01 0008 00000010 00000008"));
}

TEST_CASE("replies the connecting side cannot live with") {
  const MpaHeader good{.kind = MpaFrameKind::reply, .enhanced = true, .revision = 2};
  const MpaPrivateData depths{.enhanced = EnhancedData{.ird = 3, .ord = 16}, .legacy = {}};
  const auto agreed = iwarp::judge_reply(kOffer, good, depths);
  REQUIRE(agreed.has_value());
  CHECK(agreed->ord == 3);
  CHECK(agreed->ird == 16);

  auto header = good;
  header.reject = true;
  CHECK_FALSE(iwarp::judge_reply(kOffer, header, depths).error().terminate.has_value());
  header = good;
  header.markers = true;
  CHECK_FALSE(iwarp::judge_reply(kOffer, header, depths).has_value());
  header = good;
  header.revision = 1;
  CHECK(iwarp::judge_reply(kOffer, header, depths).error().terminate == iwarp::terminate::kInvalidSetupFrame);
  CHECK(iwarp::judge_reply(kOffer, good, {}).error().terminate == iwarp::terminate::kInvalidSetupFrame);
  CHECK(iwarp::judge_reply(kOffer, good, {.enhanced = EnhancedData{.ird = 1, .ord = 17}, .legacy = {}})
            .error()
            .terminate == iwarp::terminate::kInsufficientIrd);
  CHECK(iwarp::judge_reply(
            kOffer, good,
            {.enhanced = EnhancedData{.ird = 1, .peer_to_peer = true, .ord = 1, .rtr_write = true},
             .legacy = {}})
            .error()
            .terminate == iwarp::terminate::kNoMatchingRtr);
}

TEST_CASE("the connecting side keeps to the smallest depth it was told") {
  const MpaHeader header{.kind = MpaFrameKind::reply, .enhanced = true, .revision = 2};
  const auto with = [&](uint16_t ird, uint32_t legacy_ord) {
    MpaPrivateData data{.enhanced = EnhancedData{.ird = ird, .ord = 1}, .legacy = {}};
    data.legacy = iwarp::LegacyDepths{.ird = 1, .ord = legacy_ord};
    return iwarp::judge_reply(kOffer, header, data)->ord;
  };
  CHECK(with(5, 3) == 3);
  CHECK(with(2, 3) == 2);
  CHECK(with(5, 0) == 5);
  CHECK(with(0x3fff, 255) == 8);
  CHECK(with(0, 255) == 1);
}

TEST_CASE("the frame reader takes one frame and nothing after it, in any pieces") {
  const auto frame = iwarp::make_request(kOffer);
  for (size_t piece = 1; piece <= frame.size; ++piece) {
    iwarp::MpaFrameReader reader(MpaFrameKind::request);
    size_t at = 0;
    bool complete = false;
    while (!complete) {
      const auto room = reader.want();
      REQUIRE_FALSE(room.empty());
      const size_t n = std::min({room.size(), piece, frame.size - at});
      REQUIRE(n > 0);
      std::copy_n(frame.bytes.begin() + static_cast<ptrdiff_t>(at), n, room.begin());
      at += n;
      const auto done = reader.consumed(n);
      REQUIRE(done.has_value());
      complete = *done;
    }
    CHECK(at == frame.size);
    CHECK(reader.header().revision == 2);
    CHECK(reader.private_data().legacy->ird == 16);
  }
  iwarp::MpaFrameReader other(MpaFrameKind::reply);
  const auto room = other.want();
  std::copy_n(frame.bytes.begin(), room.size(), room.begin());
  CHECK(other.consumed(room.size()).error() == iwarp::MpaError::wrong_key);
}

}  // namespace
}  // namespace smbdirect::test
